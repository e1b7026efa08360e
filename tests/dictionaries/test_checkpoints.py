from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from pellucid.core.errors import InputError, IntegrityError
from pellucid.core.runs import RunFolder
from pellucid.dictionaries import checkpoints
from pellucid.dictionaries.crew import ALONE, Crew

N = 48


def state() -> dict[str, Tensor]:
    """Every number says which feature it belongs to."""
    rows = torch.arange(N)
    return {
        "encoder": rows[:, None].repeat(1, 3).float(),
        "vector.threshold": rows.float(),
        "first.encoder": rows[:, None].repeat(1, 3).float() + 1000,
        "second.decoder_bias": torch.arange(N).float(),  # as wide as there are features, and yet for all
        "vector.skip": torch.ones(2, 3),
        "number.penalty": torch.tensor(2.0, dtype=torch.float64),
        "scale": torch.tensor([1.5]),
        "silent_for": rows,
        "step": torch.tensor(7),
        "position": torch.tensor((1, 2)),
    }


def written(run: RunFolder, shards: int, parts: int, step: int = 7) -> Path:
    """A checkpoint as so many workers leave it."""
    with run.checkpoint(step) as folder:
        for rank in range(shards):
            crew = Crew(parts, rank, shards, shards)
            checkpoints._write_shard(folder, checkpoints.shard_of(state(), crew), crew)
    found = run.latest_checkpoint()
    assert found is not None
    return found[1]


@pytest.mark.parametrize(("wrote", "reads"), [(1, 1), (1, 4), (4, 1), (2, 2), (2, 4), (4, 2), (3, 4), (4, 3)])
@pytest.mark.parametrize("parts", [1, 2])
def test_any_number_of_workers_reads_what_any_number_wrote(
    tmp_path: Path, wrote: int, reads: int, parts: int
) -> None:
    folder = written(RunFolder(tmp_path), wrote, parts)
    for rank in range(reads):
        crew = Crew(parts, rank, reads, reads)
        expected = checkpoints.shard_of(state(), crew)
        found = checkpoints.read(folder, N, crew)
        assert found.keys() == expected.keys()
        for name, tensor in expected.items():
            assert torch.equal(found[name], tensor), name


def test_shards_hold_every_feature_once_and_as_many_of_each_part() -> None:
    for parts in (1, 3):
        own = [Crew(parts, rank, 4, 4).own(N) for rank in range(4)]
        assert torch.cat(own).sort().values.tolist() == list(range(N))
        for mine in own:
            assert torch.bincount(mine * parts // N).tolist() == [len(mine) // parts] * parts
            assert mine.tolist() == sorted(mine.tolist())


def test_what_one_process_writes_it_reads(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    checkpoints.write(run, 7, state(), ALONE)
    found = run.latest_checkpoint()
    assert found is not None
    assert sorted(p.name for p in found[1].iterdir()) == ["digests.json", "shard-0.safetensors"]
    again = checkpoints.read(found[1], N, ALONE)
    assert all(torch.equal(again[name], tensor) for name, tensor in state().items())


@pytest.mark.parametrize("harm", ["flip", "cut", "remove"])
def test_a_checkpoint_with_a_damaged_shard_gives_way_to_the_one_before(tmp_path: Path, harm: str) -> None:
    run = RunFolder(tmp_path)
    before = written(run, 2, 1, step=6)
    shard = written(run, 2, 1) / "shard-1.safetensors"
    raw = bytearray(shard.read_bytes())
    if harm == "remove":
        shard.unlink()
    else:
        raw[-5] ^= 1
        shard.write_bytes(raw if harm == "flip" else raw[:-8])
    assert run.latest_checkpoint() == (6, before)
    (before / "shard-0.safetensors").unlink()
    with pytest.raises(IntegrityError, match="No checkpoint"):
        run.latest_checkpoint()


@pytest.mark.parametrize(
    ("crew", "words"),
    [
        (Crew(size=5, shards=5), "48 features cannot be shared out evenly over 5 workers"),
        (Crew(parts=3, size=32, shards=32), "multiple of 96"),
        (Crew(size=4, shards=3), "4 workers cannot be divided into groups of 3"),
        (Crew(size=4, shards=0), "groups of 0"),
        (Crew(size=6, shards=2), "Batches of 64 tokens cannot be shared out evenly over 3 groups"),
    ],
)
def test_what_cannot_be_shared_out_evenly_is_refused(crew: Crew, words: str) -> None:
    with pytest.raises(InputError, match=words):
        crew.check(N, 64)
