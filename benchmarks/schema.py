"""Does the server keep to its OpenAPI document, whatever is sent?

schemathesis draws requests for every operation, as many that fit the document as that do not, and holds each
answer to it: its status, its content type, its headers and its body. Printed: requests by operation and
status, and each violation with a line for curl that repeats it.

The bars: no status of 500 or more, and no violation. The exit status is 1 when there is one.

By default a server of its own is started over `smollm2`, in a home that holds no recipes and no keys. A
server at an address is asked as it is: recipes are kept and removed there.

    python benchmarks/schema.py [--address http://127.0.0.1:8600] [--cases 50] [--seed 0]
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import hypothesis
import schemathesis
from hypothesis import HealthCheck, Phase
from hypothesis.errors import Unsatisfiable
from schemathesis import APIOperation, Case, GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.core.failures import Failure, FailureGroup
from schemathesis.specs.openapi import checks as openapi_checks

CHECKS = [
    not_a_server_error,
    openapi_checks.status_code_conformance,
    openapi_checks.content_type_conformance,
    openapi_checks.response_headers_conformance,
    openapi_checks.response_schema_conformance,
]
_TIMEOUT_S = 120


@dataclass
class Examined:
    """What came of it."""

    statuses: Counter[tuple[str, int]] = field(default_factory=Counter)
    """Answers by operation and status."""
    violations: dict[str, str] = field(default_factory=dict)
    """For each kind what was wrong and how to repeat it; the first of its kind stands for the others."""

    @property
    def cases(self) -> int:
        """Requests that were answered."""
        return sum(self.statuses.values())


def examine(address: str, *, cases: int, seed: int) -> Examined:
    """Ask a server, up to `cases` times for each operation and mode, the same for the same seed."""
    found = Examined()
    schema = schemathesis.openapi.from_url(f"{address}/openapi.json")
    for result in schema.get_all_operations():
        for mode in GenerationMode:
            _try(result.ok(), mode, found, cases=cases, seed=seed)
    return found


def _try(operation: APIOperation, mode: GenerationMode, found: Examined, *, cases: int, seed: int) -> None:
    """All requests are sent: a violation is written down, and none is shrunk."""

    @hypothesis.seed(seed)
    @hypothesis.settings(
        max_examples=cases,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @hypothesis.given(case=operation.as_strategy(mode))
    def one(case: Case) -> None:
        answer = case.call(timeout=_TIMEOUT_S)
        found.statuses[operation.label, answer.status_code] += 1
        try:
            case.validate_response(answer, checks=CHECKS)
        except (Failure, FailureGroup) as error:
            for failure in error.exceptions if isinstance(error, FailureGroup) else [error]:
                kind = f"{operation.label}: {getattr(failure, 'title', type(failure).__name__)}"
                found.violations.setdefault(kind, f"{failure}\n{case.as_curl_command()}")

    with suppress(Unsatisfiable):  # there may be nothing to get wrong in it
        one()


@contextmanager
def _own_server() -> Iterator[str]:
    """The address of a server that keeps nothing of what it is sent."""
    from serving import started

    from pellucid.core import paths

    known = paths.home()
    with tempfile.TemporaryDirectory() as home:
        for entry in known.iterdir():
            if entry.name not in ("recipes", "keys.json"):
                (Path(home) / entry.name).symlink_to(entry)
        os.environ["PELLUCID_HOME"] = home
        with started("--slots", "4", "--room", "64") as server:
            yield server.address.removesuffix("/v1")


def main() -> None:
    """Start a server if none is named, examine it, and print what was found."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--address")
    parser.add_argument("--cases", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    if given.address:
        found = examine(given.address.rstrip("/"), cases=given.cases, seed=given.seed)
    else:
        with _own_server() as address:
            found = examine(address, cases=given.cases, seed=given.seed)
    for (operation, status), count in sorted(found.statuses.items()):
        print(f"{operation:40} {status}  {count:,}")
    for kind, how in found.violations.items():
        print(f"\n{kind}\n{how}")
    bad = sum(count for (_, status), count in found.statuses.items() if status >= 500)
    kinds = len(found.violations)
    print(f"\n{found.cases:,} requests")
    print(f"{'NOT MET' if bad else 'met':8}{bad} statuses of 500 and more (none may)")
    print(f"{'NOT MET' if kinds else 'met':8}{kinds} kinds of violation (none may)")
    sys.exit(1 if bad or kinds else 0)


if __name__ == "__main__":
    main()
