from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from pellucid.activations.reading import Reader
from pellucid.activations.text import TextSource
from pellucid.activations.tokens import TokenStore
from pellucid.atlas import build as building
from pellucid.atlas.pages import Atlas, snippets
from pellucid.atlas.promoted import OPENINGS, promoted_tokens
from pellucid.core.errors import InputError, IntegrityError
from pellucid.core.sites import Site
from pellucid.dictionaries.base import Dictionary
from pellucid.dictionaries.ports import Ports
from pellucid.models import hooks
from pellucid.models.model import Model

N = 48
SITE = Site("resid_post", 1)


@pytest.fixture(scope="module")
def dictionary(tiny: Model) -> Dictionary:
    g = torch.Generator().manual_seed(0)
    decoder = torch.nn.functional.normalize(torch.randn(N, tiny.width, generator=g), dim=1)
    return Dictionary(
        ports=Ports.of(SITE),
        model_digest=tiny.digest,
        activation="topk",
        k=6,
        encoder=decoder.clone(),
        encoder_bias=torch.zeros(N),
        decoder=decoder,
        decoder_bias=torch.zeros(tiny.width),
        maximum=torch.full((N,), 3.0),
    )


@pytest.fixture
def reader(tiny: Model, tmp_path: Path) -> Reader:
    words = [
        "the", "rain", "dogs", "moon", "model", "reads",
        "token", "after", "another", "people", "town", "weather",
    ]  # fmt: skip
    picks = np.random.default_rng(0).choice(words, (60, 40))
    text = tmp_path / "text"
    text.mkdir()
    for number, row in enumerate(picks):
        (text / f"{number}.txt").write_text(" ".join(row))
    store = TokenStore.build(tiny, [TextSource.parse(str(text))], length=32, folder=tmp_path / "store")
    return Reader(tiny, store, SITE)


def test_statistics_and_examples_equal_brute_force(
    tiny: Model, dictionary: Dictionary, reader: Reader, tmp_path: Path
) -> None:
    rows = building.rows_of(len(reader.store.tokens), None)
    building.build(
        dictionary, reader, rows, tmp_path / "atlas", settings=building.AtlasSettings(examples=5, promoted=4)
    )
    atlas = Atlas.open(tmp_path / "atlas", dictionary=dictionary)
    activations, keep = reader.read(np.asarray(reader.store.tokens))
    dense = torch.zeros(*keep.shape, N)
    dense[keep] = dictionary.encode(activations[keep]).dense()
    assert atlas.record["tokens"] == int(keep.sum())
    for feature in range(N):
        page, mine = atlas.page(feature), dense[..., feature]
        assert page.frequency == pytest.approx(float((mine > 0).sum() / keep.sum()))
        assert page.maximum == pytest.approx(float(mine.max()), rel=1e-5)
        per_row = mine.max(1).values.sort(descending=True).values[:5]
        assert [e.value for e in page.examples] == pytest.approx(
            [v for v in per_row.tolist() if v > 0], rel=1e-4
        )
        assert len({e.row for e in page.examples}) == len(page.examples)
        for e in page.examples:
            assert float(mine[e.row, e.position]) == pytest.approx(e.value, rel=1e-4)


def test_promoted_tokens_equal_one_feature_at_a_time(tiny: Model, dictionary: Dictionary) -> None:
    assert dictionary.maximum is not None
    ids, scores = promoted_tokens(tiny, dictionary, dictionary.maximum, count=3, features=[5, 9])
    for place, feature in enumerate((5, 9)):
        rise = torch.zeros(len(tiny.tokenizer))
        for text in OPENINGS:
            tokens = torch.tensor([tiny.encode_text(text)])

            def push(x: torch.Tensor, feature: int = feature) -> torch.Tensor:
                x = x.clone()
                x[:, 1:] += 3.0 * dictionary.decoder[feature]
                return x

            with torch.inference_mode():
                before = tiny.network(tokens).logits[0, -1].softmax(-1)
                with hooks.edited(tiny.network, [(SITE, push)]):
                    after = tiny.network(tokens).logits[0, -1].softmax(-1)
            rise += ((after + 1e-4) / (before + 1e-4)).log() / len(OPENINGS)
        assert scores[place].tolist() == pytest.approx(rise.topk(3).values.tolist(), abs=1e-4)
        assert set(ids[place].tolist()) == set(rise.topk(3).indices.tolist())


def test_snippets_show_the_peak_where_the_pointer_says(
    tiny: Model, dictionary: Dictionary, reader: Reader, tmp_path: Path
) -> None:
    building.build(dictionary, reader, building.rows_of(len(reader.store.tokens), None), tmp_path / "atlas")
    page = Atlas.open(tmp_path / "atlas").page(3)
    shown = snippets(page, reader.store, tiny, dictionary, count=2, before=4, after=2)
    for snippet, example in zip(shown, page.examples, strict=False):
        assert max(snippet.values) >= example.value * (1 - 1e-4)
        assert "".join(snippet.pieces) in tiny.decode(reader.store.tokens[example.row].tolist())


def test_what_does_not_fit_is_refused(
    tiny: Model, dictionary: Dictionary, reader: Reader, tmp_path: Path
) -> None:
    rows = building.rows_of(len(reader.store.tokens), 8)
    with pytest.raises(InputError, match="no text"):
        building.build(dictionary, reader, rows[:0], tmp_path / "atlas")
    elsewhere = Reader(tiny, reader.store, Site("resid_post", 2))
    with pytest.raises(InputError, match="another model"):
        building.build(dictionary, elsewhere, rows, tmp_path / "atlas")
    building.build(dictionary, reader, rows, tmp_path / "atlas")
    with pytest.raises(InputError, match="exists already"):
        building.build(dictionary, reader, rows, tmp_path / "atlas")
    other = Dictionary(**{**dictionary.__dict__, "decoder": dictionary.decoder.flip(0)})
    with pytest.raises(InputError, match="another dictionary"):
        Atlas.open(tmp_path / "atlas", dictionary=other)
    with pytest.raises(InputError, match=f"0 to {N - 1}"):
        Atlas.open(tmp_path / "atlas").page(N)
    with pytest.raises(InputError, match="no atlas"):
        Atlas.open(tmp_path / "nowhere")
    file = tmp_path / "atlas" / "atlas.safetensors"
    file.write_bytes(file.read_bytes()[:-10])
    with pytest.raises(IntegrityError, match="damaged"):
        Atlas.open(tmp_path / "atlas")
