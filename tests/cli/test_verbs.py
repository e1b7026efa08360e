"""Every verb on a tiny model and dictionary: what it prints, and that wrong input is one clear line."""

from __future__ import annotations

import json
import resource
import shutil
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch

from pellucid.atlas.pages import Atlas
from pellucid.atlas.tables import Table
from pellucid.cli.watch import span_of
from pellucid.core.runs import RunFolder
from pellucid.dictionaries import files
from pellucid.models.model import Model
from tests.cli.shell import run


@pytest.fixture(scope="module")
def places(tiny: Model, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A tiny model on disk, text, and a trained dictionary with its atlas."""
    folder = tmp_path_factory.mktemp("cli")
    model = folder / "model"
    tiny.network.save_pretrained(model)  # type: ignore[operator]
    tiny.tokenizer.save_pretrained(model)
    text = folder / "text"
    text.mkdir()
    for number in range(400):
        words = ["the rain", "dogs bark", "a model reads", "people talk", "the moon", "in the morning"]
        picked = torch.randint(len(words), (60,), generator=torch.Generator().manual_seed(number)).tolist()
        (text / f"{number}.txt").write_text(" ".join(words[i] for i in picked))
    return {"model": model, "text": text, "run": folder / "run", "dictionary": folder / "run" / "result"}


@pytest.fixture
def trained(
    places: dict[str, Path], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> dict[str, Path]:
    """The places, with the dictionary trained (once: the run folder is resumed)."""
    monkeypatch.setenv("PELLUCID_HOME", str(places["run"].parent / "home"))
    monkeypatch.setenv("COLUMNS", "160")
    code = run(
        "train", "--out", places["run"], "--text", places["text"], "--model", places["model"],
        "--site", "resid_post.1", "--features", 64, "--k", 4, "--tokens", 20_000,
        "--batch-tokens", 256, "--atlas-tokens", 8000,
    )  # fmt: skip
    printed = capsys.readouterr()
    assert code == 0, printed.err
    assert "random directions" in " ".join(printed.out.split())
    return places


def test_train_inspect_and_models_agree(trained: dict[str, Path], capsys: pytest.CaptureFixture[str]) -> None:
    assert run("inspect", trained["dictionary"], "--json") == 0
    card = json.loads(capsys.readouterr().out)
    assert card["features"] == 64
    assert card["site"] == "resid_post.1"
    assert set(card["quality"]["methods"]) == {"dictionary", "random", "pca"}
    assert run("models", trained["model"], "--json") == 0
    assert json.loads(capsys.readouterr().out)["digest"] == card["model"]


def test_training_goes_on_from_a_dictionary_where_its_text_was_left(
    trained: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def card(folder: Path) -> dict[str, Any]:
        return dict(json.loads((folder / "result" / "card.json").read_text()))

    def more(out: Path, start: Path, *, site: str = "resid_post.1", features: int = 64, seed: int = 0) -> int:
        return run(
            "train", "--out", out, "--text", trained["text"], "--model", trained["model"], "--site", site,
            "--features", features, "--k", 4, "--tokens", 1024, "--batch-tokens", 256,
            "--atlas-tokens", 8000, "--start", start, "--seed", seed,
        )  # fmt: skip

    assert more(tmp_path / "second", trained["run"]) == 0
    first, second = card(trained["run"]), card(tmp_path / "second")
    assert second["tokens"] == first["tokens"] + 1024
    assert [e["tokens"] for e in second["earlier"]] == [first["tokens"]]
    assert second["earlier"][0]["dictionary"] == first["digests"]["dictionary.safetensors"]
    (block, batch), (last_block, last_batch) = first["order"]["position"], second["order"]["position"]
    assert (last_block, last_batch) == (block, batch + 4)

    assert more(tmp_path / "third", tmp_path / "second", seed=1) == 0
    third = card(tmp_path / "third")
    assert third["order"]["position"] == [0, 4], "another order begins at its beginning"
    assert [e["tokens"] for e in third["earlier"]] == [first["tokens"], 1024]

    capsys.readouterr()
    assert more(tmp_path / "fourth", trained["run"], features=32) == 1
    assert "Ask for what it has" in " ".join(capsys.readouterr().err.split())
    assert more(tmp_path / "fifth", trained["run"], site="resid_post.0") == 1
    assert "of resid_post.1, and resid_post.0 was asked for. Name its sites" in " ".join(
        capsys.readouterr().err.split()
    )


def test_a_disk_that_is_full_is_one_clear_error_and_the_same_command_goes_on(
    trained: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = (
        "train", "--out", tmp_path / "run", "--text", trained["text"], "--model", trained["model"],
        "--site", "resid_post.1", "--features", 64, "--k", 4, "--tokens", 20_000, "--batch-tokens", 256,
        "--atlas-tokens", 8000,
    )  # fmt: skip
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    refused = []
    for most in (2000, 10_000, 20_000):
        resource.setrlimit(resource.RLIMIT_FSIZE, (most, hard))
        try:
            code = run(*words)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        printed = " ".join(capsys.readouterr().err.split())
        if code == 0:
            break
        assert "The system refused to read or write" in printed
        assert "Traceback" not in printed
        refused.append(most)
    assert len(refused) >= 2
    assert run(*words) == 0
    one, two = (files.load(folder / "result")[0] for folder in (trained["run"], tmp_path / "run"))
    assert torch.equal(one.decoder, two.decoder)
    assert sorted(p.name for p in (tmp_path / "run").iterdir()) == [
        ".lock", "checkpoints", "events.jsonl", "result", "run.json",
    ]  # fmt: skip


@pytest.mark.parametrize(
    "crew",
    [
        ["--workers", 2],
        pytest.param(
            ["--workers", 2, "--cluster"],
            marks=[
                pytest.mark.cluster,
                pytest.mark.timeout(600),  # a cluster starts a dozen processes
                pytest.mark.skipif(
                    find_spec("ray") is None, reason="Ray is not installed: pellucid[cluster]"
                ),
                pytest.mark.filterwarnings("ignore"),  # those of Ray
            ],
        ),
    ],
    ids=["processes", "cluster"],
)
def test_two_workers_train_what_one_trains(
    trained: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str], crew: list[object]
) -> None:
    words = (
        "train", "--out", tmp_path / "run", "--text", trained["text"], "--model", trained["model"],
        "--site", "resid_post.1", "--features", 64, "--k", 4, "--tokens", 20_000, "--batch-tokens", 256,
        "--atlas-tokens", 8000,
    )  # fmt: skip
    assert run(*words, *crew) == 0, capsys.readouterr().err
    assert "train: 20,224 of 20,224" in capsys.readouterr().err
    folders = trained["run"], tmp_path / "run"
    one, two = (files.load(folder / "result")[0] for folder in folders)
    losses = [[event["fvu"] for event in RunFolder(folder).events()] for folder in folders]
    assert losses[1] == pytest.approx(losses[0], rel=1e-5)
    close = torch.isclose(one.decoder, two.decoder, rtol=1e-3, atol=1e-3)
    assert float(close.float().mean()) > 0.99
    checkpoint = max((tmp_path / "run" / "checkpoints").iterdir())
    assert sorted(p.name for p in checkpoint.glob("shard-*")) == [
        "shard-0.safetensors",
        "shard-1.safetensors",
    ]
    assert run(*words) == 0, "one process finds it finished"


def test_workers_that_cannot_share_are_refused_before_any_is_started(
    trained: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ("train", "--out", tmp_path / "run", "--text", trained["text"], "--model", trained["model"])
    for options, said in (
        (["--features", 64, "--workers", 3], "cannot be shared out evenly over 3 workers"),
        (["--features", 64, "--workers", 4, "--shards", 3], "Give --shards a divisor of --workers"),
        (["--features", 64, "--workers", 0], "one worker at least"),
    ):
        assert run(*words, "--site", "resid_post.1", "--k", 4, *options) == 1
        assert said in " ".join(capsys.readouterr().err.split())


def test_several_dictionaries_train_on_one_reading(
    trained: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = (
        "train", "--out", tmp_path / "grid", "--text", trained["text"], "--model", trained["model"],
        "--site", "resid_post.1", "--features", 32, 64, "--k", 4, "--architecture", "batchtopk", "topk",
        "--tokens", 20_000, "--batch-tokens", 256, "--atlas-tokens", 8000,
    )  # fmt: skip
    assert run(*words) == 0
    names = ["batchtopk-32-k4", "batchtopk-64-k4", "topk-32-k4", "topk-64-k4"]
    assert sorted(p.name for p in (tmp_path / "grid").iterdir()) == names
    printed = capsys.readouterr().out
    assert all(name in printed for name in [*names, "random of the first"])
    folders = [tmp_path / "grid" / name for name in names]
    assert run("inspect", *folders[:2]) == 0
    printed = capsys.readouterr().out
    assert all(name in printed for name in [*names[:2], "pca of the first", "have a partner in"])
    assert run("inspect", folders[1], trained["dictionary"], "--json") == 0
    compared = json.loads(capsys.readouterr().out)
    assert compared["run"]["agreement"]["partners"] == 1.0
    # The one that was trained by itself, with the same settings, has the same bits.
    alone, together = (
        files.load(p)[0] for p in (trained["run"] / "result", tmp_path / "grid" / names[1] / "result")
    )
    assert torch.equal(alone.decoder, together.decoder)
    assert run(*words, "--json") == 0
    assert set(json.loads(capsys.readouterr().out)) == set(names)
    assert run(*words, "--start", trained["run"]) == 1
    assert "serves one run" in capsys.readouterr().err


def test_a_dictionary_goes_to_another_library_and_comes_back(
    trained: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    there, back = tmp_path / "there", tmp_path / "back"
    assert run("convert", trained["dictionary"], "--to", "saelens", "--out", there) == 0
    assert sorted(p.name for p in there.iterdir()) == ["cfg.json", "sae_weights.safetensors"]
    words = ("--model", trained["model"], "--text", trained["text"], "--tokens", 4000)
    assert run("convert", there, "--out", back, *words) == 0
    printed = capsys.readouterr().out
    assert "as declared" in printed
    assert "converted from saelens" in printed
    one, two = (files.load(folder)[0] for folder in (trained["dictionary"], back))
    x = torch.randn(50, one.width, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(two.encode(x).dense(), one.encode(x).dense(), rtol=1e-4, atol=1e-4)
    assert two.maximum is not None
    assert float(two.maximum.max()) > 0
    assert run("steer", "the rain", "--set", "3=6", "--dictionary", back, "--max-tokens", 3) == 0

    capsys.readouterr()
    assert run("convert", there, "--out", back, *words) == 1
    assert "exists already" in capsys.readouterr().err
    config = json.loads((there / "cfg.json").read_text())
    config["metadata"]["hook_name"] = "blocks.0.hook_resid_post"
    (there / "cfg.json").write_text(json.dumps(config))
    assert run("convert", there, "--out", tmp_path / "wrong", *words) == 1
    assert "The site is not what the file says" in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / "wrong").exists()
    assert run("convert", trained["text"], "--out", tmp_path / "wrong", *words) == 1
    assert "no dictionary of a known library" in " ".join(capsys.readouterr().err.split())


def test_watch_lists_every_token_it_reads_and_writes(
    trained: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    text = "the rain came and dogs bark"
    words = ("watch", text, "--dictionary", trained["dictionary"], "--max-tokens", 5)
    assert run(*words, "--json") == 0
    tokens = json.loads(capsys.readouterr().out)["tokens"]
    assert "".join(t["piece"] for t in tokens if t["role"] == "reads").strip() == text
    written = [t for t in tokens if t["role"] == "writes"]
    assert 1 <= len(written) <= 5
    assert all(t["logprob"] < 0 for t in written)
    assert any(t["features"] for t in written)
    assert run(*words) == 0
    assert "promotes" in capsys.readouterr().out


def test_steer_prints_both_answers_and_receipts(
    trained: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("inspect", trained["dictionary"], "--json") == 0
    capsys.readouterr()
    words = ("steer", "the rain", "--set", "3=6", "--dictionary", trained["dictionary"], "--max-tokens", 6)
    assert run(*words, "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert found[0]["receipts"][0]["feature"] == 3
    assert found[0]["receipts"][0]["kl"] > 0
    assert run(*words) == 0
    assert "receipt" in capsys.readouterr().out


def test_a_routed_dictionary_is_trained_read_and_steered_as_any_other(
    trained: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    assert run(
        "train", "--out", out, "--text", trained["text"], "--model", trained["model"],
        "--site", "resid_post.1", "--features", 64, "--k", 4, "--visits", 2,
        "--tokens", 20_000, "--batch-tokens", 256, "--atlas-tokens", 8000,
    ) == 0  # fmt: skip
    capsys.readouterr()
    assert run("inspect", out / "result", "--json") == 0
    card = json.loads(capsys.readouterr().out)
    assert (card["format"], card["visits"], card["settings"]["visits"]) == (2, 2, 2)
    methods = card["quality"]["methods"]
    assert methods["dictionary"]["unexplained"]["value"] < methods["random"]["unexplained"]["value"]
    words = ("--dictionary", out / "result", "--max-tokens", 5)
    assert run("watch", "the rain came", *words, "--json") == 0
    tokens = json.loads(capsys.readouterr().out)["tokens"]
    strongest = max((f for t in tokens for f in t["features"]), key=lambda f: float(f["share"]))
    assert run("steer", "the rain", "--set", f"{strongest['feature']}=6", *words, "--json") == 0
    receipt = json.loads(capsys.readouterr().out)[0]["receipts"][0]
    assert receipt["kl"] > 0
    assert receipt["reached"] > receipt["before"]
    assert run("convert", out / "result", "--to", "saelens", "--out", tmp_path / "there") == 1
    assert "have no router" in " ".join(capsys.readouterr().err.split())


def test_atlas_shows_and_finds(trained: dict[str, Path], capsys: pytest.CaptureFixture[str]) -> None:
    strongest = int(Atlas.open(trained["dictionary"] / "atlas").features.column("count").argmax())
    assert run("atlas", "show", strongest, "--dictionary", trained["dictionary"], "--json") == 0
    page = json.loads(capsys.readouterr().out)
    assert page["feature"] == strongest
    assert page["promoted"]
    assert page["suppressed"]
    assert sum(page["histogram"]) == page["count"] == sum(page["positions"]) > 0
    assert page["sources"][0]["active"] == page["count"]
    assert list(page["quantiles"].values()) == sorted(page["quantiles"].values())
    assert run("atlas", "show", strongest, "--dictionary", trained["dictionary"]) == 0
    printed = capsys.readouterr().out
    for head in ("active on", "maximum", "histogram", "tokens", "positions", "promotes", "suppresses"):
        assert f"\n{head}" in printed
    words = (
        "atlas", "find", "--with", "dogs bark", "the moon", "--without", "people talk",
        "--dictionary", trained["dictionary"],
    )  # fmt: skip
    assert run(*words, "--json") == 0
    assert len(json.loads(capsys.readouterr().out)) > 0
    assert run(*words) == 0


def test_atlas_labels_all_and_a_few(
    trained: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ("atlas", "label", "--dictionary", trained["dictionary"], "--held-out", 10)
    assert run(*words, "--compact", tmp_path / "small", "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert told["labelled"] + told["scarce"] == told["features"] > 30
    assert told["failed"] == 0
    assert {label["explainer"] for label in told["labels"]} == {"words"}
    assert Table.open(tmp_path / "small").rows == 64
    feature = told["labels"][0]["feature"]
    assert run(*words, "--features", feature) == 0
    printed = capsys.readouterr().out
    for head in ("what switches it on", "what it does", "reliable", "mean score", "detection", "fuzzing"):
        assert head in printed


REFUSED = [
    (("--features", "3,x"), "features such as 3,7"),
    (("--held-out", "3"), "6 examples or more"),
    (("--budget", "2"), "--budget without --endpoint has no effect"),
    (("--endpoint", "http://127.0.0.1:9/v1/messages"), "needs --model"),
    (("--endpoint", "127.0.0.1:9", "--model", "m"), "whole address"),
    (("--endpoint", "http://127.0.0.1:9", "--model", "m", "--budget", "2"), "needs --price-read"),
    (("--endpoint", "http://127.0.0.1:9", "--model", "m", "--local", "smollm2"), "give one of both"),
    (("--features", "64"), "Feature 64 does not exist"),
]


@pytest.mark.parametrize(("options", "told"), REFUSED)
def test_atlas_label_refuses_what_does_not_fit_together(
    trained: dict[str, Path], options: tuple[str, ...], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("atlas", "label", "--dictionary", trained["dictionary"], *options) == 1
    assert told in " ".join(capsys.readouterr().err.split())


def test_atlases_are_built_and_shown_where_they_were_put(
    trained: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    build = ("atlas", "build", trained["dictionary"], "--text", trained["text"], "--tokens", 4000)
    assert run(*build, "--out", tmp_path / "one", "--promoted", 0) == 0
    assert run(*build, "--out", tmp_path / "one") == 1
    assert "exists already" in capsys.readouterr().err
    assert not (tmp_path / "one" / "effects").exists()
    shown = ("atlas", "show", 3, "--dictionary", trained["dictionary"], "--json")
    assert run(*shown, "--atlas", tmp_path / "one") == 0
    page = json.loads(capsys.readouterr().out)
    assert page["promoted"], "measured now, because the atlas holds none"
    assert page["suppressed"] == []
    for place in ((), ("--atlas", tmp_path / "one")):  # what `train` built, and this
        near = ("atlas", "similar", 3, "--by", "firing", "--dictionary", trained["dictionary"], *place)
        assert run(*near, "--json") == 0
        assert all(s["together"] >= 8 for s in json.loads(capsys.readouterr().out)["similar"])

    twin = tmp_path / "twin"
    shutil.copytree(trained["dictionary"], twin, ignore=shutil.ignore_patterns("atlas"))
    both = ("atlas", "build", trained["dictionary"], twin, "--text", trained["text"], "--tokens", 4000)
    assert run(*both, "--out", tmp_path / "both", "--json") == 0
    records = json.loads(capsys.readouterr().out)
    assert list(records) == [str(tmp_path / "both" / name) for name in ("run", "twin")]
    first, second = records.values()
    assert first == second
    assert run("atlas", "build", twin, twin, "--text", trained["text"], "--out", tmp_path / "c") == 1
    assert "one name" in capsys.readouterr().err
    assert run("atlas", "show", 3, "--dictionary", twin) == 1
    assert "name it with --atlas" in " ".join(capsys.readouterr().err.split())


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("watch", "hello", "--dictionary", "nosuch"), "no dictionary 'nosuch'"),
        (("watch", "  ", "--dictionary", "D"), "prompt is empty"),
        (("watch", "hello", "--feature", "64", "--dictionary", "D"), "0 to 63"),
        (("steer", "hello", "--set", "64=5", "--dictionary", "D"), "0 to 63"),
        (("steer", "hello", "--set", "3", "--dictionary", "D"), "FEATURE=STRENGTH"),
        (("steer", "hello", "--dictionary", "D"), "at least one edit"),
        (("steer", "hello", "--scale", "3=1", "--dictionary", "D", "--max-tokens", "3"), "changed nothing"),
        (("steer", "hello", "--set", "3=5", "--samples", "2", "--dictionary", "D"), "temperature"),
        (("atlas", "show", "64", "--dictionary", "D"), "0 to 63"),
        (("models", "nosuch"), "no model 'nosuch'"),
        (("models", "pypi:broken"), "pypi:package==version"),
        (("inspect", "./nowhere"), "no dictionary"),
        (
            ("train", "--out", "O", "--text", "nowhere.txt", "--model", "M", "--site", "resid_post.1"),
            "no file or folder",
        ),
        (("train", "--out", "O", "--text", "T", "--model", "M", "--site", "resid_post.9"), "no site"),
        (
            ("train", "--out", "O", "--text", "T", "--model", "M", "--site", "resid_pos.1"),
            "Did you mean 'resid_post'",
        ),
        (("train", "--out", "O", "--text", "T", "--model", "M", "--tokens", "lots"), "Expected a count"),
        (
            (
                "train",
                "--out",
                "O",
                "--text",
                "T",
                "--model",
                "M",
                "--site",
                "resid_post.1",
                "--tokens",
                "9M",
            ),
            "ran out",
        ),
    ],
)
def test_wrong_input_is_one_clear_line(
    trained: dict[str, Path],
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    words: tuple[str, ...],
    says: str,
) -> None:
    stands = {"D": trained["dictionary"], "M": trained["model"], "T": trained["text"], "O": tmp_path / "out"}
    assert run(*(stands.get(w, w) for w in words)) == 1
    printed = capsys.readouterr()
    last = printed.err[printed.err.index("error: ") :]
    assert says in last
    assert "Traceback" not in printed.err + printed.out
    assert last.strip().count("\n") == 0


def test_another_command_on_a_run_folder_is_refused_and_changes_nothing(
    trained: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    before = {p: p.read_bytes() for p in trained["dictionary"].rglob("*") if p.is_file()}
    code = run(
        "train", "--out", trained["run"], "--text", trained["text"], "--model", trained["model"],
        "--site", "resid_post.1", "--features", 128, "--k", 4, "--tokens", 20_000, "--batch-tokens", 256,
    )  # fmt: skip
    assert code == 1
    assert "settings.features was 64, now 128" in capsys.readouterr().err
    assert {p: p.read_bytes() for p in trained["dictionary"].rglob("*") if p.is_file()} == before


def test_the_span_of_a_text_among_pieces() -> None:
    pieces = ["<s>", "user", "\n", "the", " rain", " came", "<e>"]
    assert span_of(pieces, "the rain") == (3, 5)
    assert span_of(pieces, "nowhere") == (0, 7)


def test_train_offers_the_architectures_there_are() -> None:
    from typing import get_args

    from pellucid.dictionaries import architectures, settings

    reference = Path(__file__).parents[2] / "docs" / "reference" / "cli.md"
    choices = ", ".join(get_args(settings.Architecture))
    assert f"*[choices: {choices}]*" in reference.read_text(encoding="utf-8")
    for name in get_args(settings.Architecture):
        made = architectures.of(settings.TrainSettings(features=8, k=2, architecture=name))
        assert type(made).__name__.lower() == name


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--site", "mlp_in.1", "--target", "mlp_out.1", "--skip"], "mlp_in.1 to mlp_out.1"),
        (["--site", "resid_post.0", "resid_post.2"], "at resid_post.2"),
        (
            ["--site", "mlp_in.0", "mlp_in.1", "--target", "mlp_out.0", "mlp_out.1"],
            "mlp_in.0, mlp_in.1 to mlp_out.0, mlp_out.1",
        ),
        (["--site", "resid_post.1", "--beside", "MODEL"], "of both models"),
    ],
)
def test_dictionaries_of_several_sites_are_trained_shown_and_turned_up(
    options: list[str],
    says: str,
    trained: dict[str, Path],
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    words = [trained["model"] if w == "MODEL" else w for w in options]
    code = run(
        "train", "--out", tmp_path / "run", "--text", trained["text"], "--model", trained["model"], *words,
        "--features", 64, "--k", 4, "--tokens", 6000, "--batch-tokens", 256, "--atlas-tokens", 2000,
        "--architecture", "topk",
    )  # fmt: skip
    assert code == 0, capsys.readouterr().err
    capsys.readouterr()
    result = tmp_path / "run" / "result"
    assert run("inspect", result) == 0
    assert says in " ".join(capsys.readouterr().out.split())
    assert run("inspect", result, "--measure", "--rows", 4) == 0
    card = json.loads((result / "card.json").read_text())
    strongest = int(files.load(result)[0].maximum.argmax())  # type: ignore[union-attr]
    capsys.readouterr()
    if card["ports"]["beside"]:
        assert not (result / "atlas").exists()
        return
    assert run("atlas", "show", strongest, "--dictionary", result) == 0
    assert "promotes" in capsys.readouterr().out
    code = run("steer", "the rain", "--dictionary", result, "--set", f"{strongest}=3", "--max-tokens", 4)
    told = capsys.readouterr()
    if len(card["ports"]["reads"]) == 1:
        assert code == 0, told.err
        assert "reached" in told.out
    else:
        assert code == 1
        assert "and this needs" in told.err
