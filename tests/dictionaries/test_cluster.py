"""How a cluster fails; that it trains is seen through the command line (tests/cli/test_verbs.py)."""

from __future__ import annotations

import sys
from importlib.util import find_spec

import pytest

from pellucid.core.errors import InputError, MissingDependencyError, WorkerError
from pellucid.dictionaries import cluster
from pellucid.dictionaries.launch import rest


def test_without_ray_the_error_has_the_install_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(MissingDependencyError, match=r"pip install 'pellucid\[cluster\]'"):
        cluster.launch(rest, 2)


@pytest.mark.skipif(find_spec("ray") is None, reason="Ray is not installed: pellucid[cluster]")
@pytest.mark.filterwarnings("ignore")  # those of Ray
def test_what_a_worker_raised_is_raised_and_not_what_others_say_of_it() -> None:
    from ray.train import ControllerError, WorkerGroupError

    lost, said = RuntimeError("Connection closed by peer"), InputError("the text ran out")
    assert cluster._meant_by(WorkerGroupError("both", {0: lost, 1: said})) is said
    found = cluster._meant_by(WorkerGroupError("both", {0: lost}))
    assert isinstance(found, WorkerError)
    assert "Connection closed by peer" in str(found)
    assert "repeat the command" in str(found)
    assert isinstance(cluster._meant_by(ControllerError(ValueError("no room"))), WorkerError)
