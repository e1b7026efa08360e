"""The types of the pages are those of the server's OpenAPI document.

Run as a script, this file writes studio/src/api/schema.d.ts; as a test it refuses types that are stale.
"""

from __future__ import annotations

import json
import subprocess
import tempfile
from pathlib import Path

from pellucid.models.steps import steps_of
from pellucid.serving.app import application
from pellucid.serving.engine import Engine
from pellucid.serving.served import Served
from pellucid.testing import tiny_model

STUDIO = Path(__file__).resolve().parents[2] / "studio"
TYPES = STUDIO / "src/api/schema.d.ts"


def types() -> str:
    """The document of a server, as TypeScript."""
    model = tiny_model()
    app = application(Served(model, {}), Engine(steps_of(model, slots=1, room=64)))
    with tempfile.TemporaryDirectory() as folder:
        document, made = Path(folder) / "openapi.json", Path(folder) / "schema.d.ts"
        document.write_text(json.dumps(app.openapi()), encoding="utf-8")
        command = [str(STUDIO / "node_modules/.bin/openapi-typescript"), str(document), "-o", str(made)]
        subprocess.run(command, check=True, capture_output=True, text=True)
        return made.read_text(encoding="utf-8")


def test_the_types_are_fresh(pages: Path) -> None:
    assert TYPES.read_text(encoding="utf-8") == types(), f"stale: run python {Path(__file__).name}"


if __name__ == "__main__":
    TYPES.write_text(types(), encoding="utf-8")
    print(f"wrote {TYPES.name}")
