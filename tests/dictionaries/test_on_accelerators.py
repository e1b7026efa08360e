"""Dictionaries on an accelerator, and on the processor beside a model that is on one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pellucid.activations.reading import Reader
from pellucid.activations.text import TextSource
from pellucid.activations.tokens import TokenStore
from pellucid.core.runs import RunFolder
from pellucid.core.sites import Site
from pellucid.dictionaries import diffing, files, peers, quality, remeasure
from pellucid.dictionaries.base import Dictionary
from pellucid.dictionaries.peers import Declared
from pellucid.dictionaries.ports import Ports
from pellucid.dictionaries.routing import Router
from pellucid.dictionaries.settings import TrainSettings
from pellucid.dictionaries.training import train
from pellucid.models.model import Model
from pellucid.testing import WORDS, tiny_model

On = Callable[..., Model]
SITE = Site("resid_post", 1)
LATER = Site("resid_post", 2)
CLOSE = {"rtol": 5e-4, "atol": 5e-4}


def made(
    model: Model, activation: Any = "relu", features: int = 64, ports: Ports | None = None
) -> Dictionary:
    """Random directions."""
    ports = ports or Ports.of(SITE)
    g = torch.Generator().manual_seed(0)
    rows, columns = (
        torch.nn.functional.normalize(torch.randn(features, model.width * count, generator=g), dim=1)
        for count in (1 if ports.layered else len(ports.reads), len(ports.writes))
    )
    return Dictionary(
        ports=ports,
        model_digest=model.digest,
        activation=activation,
        encoder=columns.clone() if ports.same else rows,
        encoder_bias=torch.zeros(features),
        decoder=columns,
        decoder_bias=torch.zeros(columns.shape[1]),
        k=4 if activation == "topk" else None,
        threshold=torch.full((features,), 4.0 if features > 64 else 0.3)
        if activation == "jumprelu"
        else None,
        maximum=torch.full((features,), 3.0),
        frequency=torch.full((features,), 0.1),
    )


def kinds(model: Model) -> dict[str, Dictionary]:
    """Dictionaries that are encoded by different steps."""
    g = torch.Generator().manual_seed(1)
    router = Router(torch.randn(8, model.width, generator=g), torch.zeros(8), 3)
    layered = Ports((SITE, LATER), (Site("mlp_out", 2), Site("mlp_out", 3)))
    return {
        "few of topk": made(model, "topk"),
        "topk": made(model, "topk", 1024),
        "jumprelu": made(model, "jumprelu", 1024),
        "relu": made(model),
        "routed": replace(made(model, "topk"), router=router),
        "routed jumprelu": replace(made(model, "jumprelu"), router=router),
        "several sites": made(model, "topk", 1024, layered),
        "several sites, relu": made(model, "relu", 64, layered),
        "transcoder": replace(
            made(model, "relu", 64, Ports((SITE,), (LATER,))), skip=torch.eye(model.width) / 2
        ),
    }


@pytest.mark.parametrize("kind", list(kinds(tiny_model())))
def test_codes_lie_where_the_dictionary_does_wherever_activations_come_from(
    tiny: Model, device: str, kind: str
) -> None:
    d = kinds(tiny)[kind]
    x = 2 * torch.randn(64, d.width, generator=torch.Generator().manual_seed(3))
    chosen = torch.tensor([3, 0, 17])
    assert len(d.encode(x).values) > 100
    for rows, lies, comes in (
        (x, device, device), (x, "cpu", device),
        (x[:3], device, device), (x[:3], device, "cpu"), (x[:3], "cpu", device),
        (x[:0], device, device), (x[:0], "cpu", device),
    ):  # fmt: skip
        rebuilt, codes = d.reconstruct(rows)
        moved, given = d.to(lies), rows.to(comes)
        mine, found = moved.reconstruct(given)
        assert found.values.device.type == mine.device.type == lies
        dense, expected = found.to("cpu").dense(), codes.dense()
        # Where entries compete, one at the edge of bf16 may be kept by one product and not the other.
        same = ((dense > 0) == (expected > 0)).all(1)
        assert (~same).sum() <= len(same) // 16
        torch.testing.assert_close(dense[same], expected[same], **CLOSE)
        torch.testing.assert_close(mine.cpu()[same], rebuilt[same], **CLOSE)
        some = moved.activations_of(given, chosen)
        assert some.device.type == comes
        torch.testing.assert_close(some.cpu(), dense[:, chosen], **CLOSE)
        torch.testing.assert_close(moved.activation_of(given, 17).cpu(), dense[:, 17], **CLOSE)


@pytest.fixture
def store(tiny: Model, tmp_path: Path) -> TokenStore:
    draw = np.random.default_rng(0)
    text = tmp_path / "text.txt"
    text.write_text("\n\n".join(" ".join(draw.choice(WORDS, 30)) for _ in range(6)))
    return TokenStore.build(tiny, [TextSource.parse(str(text))], length=16, folder=tmp_path / "store")


def close(found: Any, expected: Any) -> None:
    """Whether figures of JSON are the same, but for digits."""
    if isinstance(expected, dict):
        assert found.keys() == expected.keys()
        for name, value in expected.items():
            close(found[name], value)
    elif isinstance(expected, list):
        close(dict(enumerate(found)), dict(enumerate(expected)))
    elif isinstance(expected, float):
        assert found == pytest.approx(expected, rel=2e-3, abs=2e-4)
    else:
        assert found == expected


def test_quality_is_what_the_processor_measures(tiny: Model, store: TokenStore, device: str, on: On) -> None:
    rows = np.asarray(store.tokens[:4])
    for d in (made(tiny, "topk"), made(tiny, "relu", 64, Ports((SITE,), (LATER,)))):
        expected, found = (
            quality.measure(d, Reader(m, store, *d.ports.sites[:1], further=d.ports.sites[1:]), rows)
            for m in (tiny, on(device, tiny))
        )
        close(found.as_json(), expected.as_json())


def test_two_models_are_told_apart_as_on_the_processor(
    tiny: Model, store: TokenStore, device: str, on: On
) -> None:
    other = tiny_model(seed=1)
    ports = Ports((SITE, SITE), (SITE, SITE), other.digest)
    pairs = made(tiny, "topk", 64, ports)
    # A third of the features for each model alone.
    alone = torch.ones(64, 2 * tiny.width)
    alone[:20, : tiny.width], alone[20:40, tiny.width :] = 0.02, 0.02
    d = replace(pairs, decoder=torch.nn.functional.normalize(pairs.decoder * alone, dim=1))
    rows = np.asarray(store.tokens[:8])
    expected = diffing.difference(d, Reader(tiny, store, SITE, beside=other), rows)
    beside = Reader(on(device, tiny), store, SITE, beside=on(device, other))
    assert expected.second
    assert expected.first
    for lies in ("cpu", device):
        close(diffing.difference(d.to(lies), beside, rows).as_json(), expected.as_json())
    figures = [
        quality.measure(d, reader, rows[:4]) for reader in (Reader(tiny, store, SITE, beside=other), beside)
    ]
    close(figures[1].as_json(), figures[0].as_json())


def test_files_of_other_libraries_are_measured_on_it(
    tiny: Model, store: TokenStore, device: str, on: On, tmp_path: Path
) -> None:
    d = made(tiny)
    declared = Declared("saelens", d.encoder, d.encoder_bias, d.decoder, d.decoder_bias, "relu", site=SITE)
    away = on(device, tiny)
    d = declared.dictionary(SITE, tiny.digest)
    expected, *found = (
        remeasure.with_maxima(d.to(place), Reader(model, store, SITE), 300)
        for model, place in ((tiny, "cpu"), (away, "cpu"), (away, device))
    )
    for whole in found:
        for name in ("maximum", "frequency"):
            torch.testing.assert_close(getattr(whole.to("cpu"), name), getattr(expected, name), **CLOSE)
    peers.write(found[-1], "gemmascope", tmp_path / "theirs", "tiny")
    torch.testing.assert_close(peers.read(tmp_path / "theirs").decoder, d.decoder, **CLOSE)


def test_what_is_read_there_trains_there_and_is_kept(
    tiny: Model, store: TokenStore, device: str, on: On, tmp_path: Path
) -> None:
    settings = TrainSettings(features=16, k=4, tokens=120, batch_tokens=40)
    found = []
    for number, model in enumerate((tiny, on(device, tiny))):
        reader = Reader(model, store, SITE, batch_tokens=40, block_rows=8)
        with RunFolder.open(tmp_path / str(number), identity={}) as run:
            d, _ = train(reader, settings, run, ports=Ports.of(SITE))
        assert d.encoder.device.type == model.device.type
        files.save(d, tmp_path / f"kept{number}", card={}, fixture=reader.sample(16).float())
        found.append(files.load(tmp_path / f"kept{number}", model_digest=tiny.digest)[0])
    assert (found[0].decoder - found[1].decoder).abs().amax(1).median() < 1e-4
