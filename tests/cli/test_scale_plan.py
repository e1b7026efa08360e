"""The verbs that plan, on simulated runs and on files that are no such thing."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pellucid.cli.scale_options import shown
from pellucid.scaling.accounting import Transformer, parameters
from pellucid.scaling.surface import Surface
from tests.cli.shell import run

SERVED = ("--read", "1.6T", "--written", "0.4T")


@pytest.fixture(autouse=True)
def _wide(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Runs of a law with half a per cent of noise."""
    N = np.repeat(np.geomspace(5e7, 5e9, 7), 4)
    D = N * np.tile([5.0, 20.0, 60.0, 200.0], 7)
    loss = Surface.of((1.7, 420.0, 900.0, 0.34, 0.32)).loss(N, D)
    loss = loss * np.exp(np.random.default_rng(0).normal(0, 0.005, len(N)))
    path = tmp_path_factory.mktemp("scale") / "runs.csv"
    rows = "".join(f"{n:.6g},{d:.6g},{y:.6f}\n" for n, d, y in zip(N, D, loss, strict=True))
    path.write_text("N,D,loss\n" + rows)
    return path


def answer(capsys: pytest.CaptureFixture[str], *words: object) -> Any:
    """What a verb prints as JSON."""
    assert run("scale", *words, "--json") == 0
    return json.loads(capsys.readouterr().out)


def complaint(capsys: pytest.CaptureFixture[str], *words: object) -> str:
    """The one line of an error."""
    assert run("scale", *words) == 1
    printed = capsys.readouterr()
    assert printed.out == ""
    assert "Traceback" not in printed.err
    return " ".join(printed.err.split())


def test_a_plan_gives_the_published_figures(capsys: pytest.CaptureFixture[str]) -> None:
    found = answer(
        capsys, "plan", "--law", "sardana_2023", "--loss", 1.947, "--read", "2T", "--least", "flops"
    )
    best, plain = found["options"]["planned"], found["options"]["training only"]
    assert float(f"{best['parameters']['value']:.3e}") == 2.418e10
    assert float(f"{best['tokens']['value']:.3e}") == 2.657e12
    assert best["parameters"]["value"] / plain["parameters"]["value"] == pytest.approx(0.7096, abs=1e-4)
    assert best["parameters"]["low"] is None
    assert any("no draws" in note for note in found["notes"])


def test_a_plan_from_runs_has_intervals_baselines_and_dates(
    runs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ("plan", runs, "--loss", 2.1, *SERVED, "--draws", 100, "--training-chips", 512)
    found = answer(capsys, *words)
    best = found["options"]["planned"]
    for quantity in ("parameters", "tokens", "training_dollars", "lifetime_dollars", "dollars_per_million"):
        assert best[quantity]["low"] < best[quantity]["value"] < best[quantity]["high"], quantity
    assert found["options"]["training only"]["wasted_share"] > best["wasted_share"] > 0
    assert set(found["options"]) == {"planned", "training only", "rule of thumb"}
    assert found["price_dates"] == ["2026-09-20"]
    assert found["training_days"]["value"] > 0
    near = answer(capsys, "plan", runs, "--loss", 2.3, "--draws", 30)
    assert not any("Outside the runs" in note for note in near["notes"])
    far = answer(capsys, "plan", runs, "--loss", 1.8, "--draws", 30)
    assert any("Outside the runs: N is" in note and "decades above" in note for note in far["notes"])
    assert run("scale", *words) == 0
    printed = capsys.readouterr()
    for heading in (
        "planned",
        "90% of draws",
        "training only",
        "rule of thumb",
        "wasted",
        "days of training",
    ):
        assert heading in printed.out
    assert "2026-09-20" in printed.err


def test_the_level_widens_the_interval(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ("plan", runs, "--loss", 2.1, "--draws", 100)
    wide, narrow = (
        answer(capsys, *words, "--nominal", nominal)["options"]["planned"]["tokens"]
        for nominal in (0.95, 0.5)
    )
    assert wide["low"] < narrow["low"] < narrow["high"] < wide["high"]


def test_limits_and_short_text_are_told(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = answer(
        capsys, "plan", runs, "--loss", 2.1, "--draws", 50, *SERVED, "--unique-tokens", "100B",
        "--chips-per-copy", 1, "--seconds-per-token", 0.0015,
    )  # fmt: skip
    assert found["limit_holds"]
    assert found["most_parameters"] == pytest.approx(3.35e12 * 0.6 * 0.0015)
    assert found["options"]["planned"]["parameters"]["value"] <= found["most_parameters"]
    notes = " ".join(found["notes"])
    assert "held back by seconds per token" in notes
    assert "read again" in notes


def test_a_budget_in_dollars_or_flops_is_spent(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = answer(capsys, "plan", runs, "--dollars", "250k", "--draws", 50, *SERVED)
    assert found["options"]["planned"]["lifetime_dollars"]["value"] == pytest.approx(250e3)
    assert found["loss"]["low"] < found["loss"]["value"] < found["loss"]["high"]
    found = answer(capsys, "plan", runs, "--flops", "1e22", "--draws", 50)
    assert found["options"]["planned"]["training_flops"]["value"] == pytest.approx(1e22)


def test_a_teacher_is_weighed(capsys: pytest.CaptureFixture[str]) -> None:
    found = answer(
        capsys, "plan", "--law", "hoffmann_2022", "--flops", "1e21", "--teacher-parameters", "7B",
        "--teacher-tokens", "1T", "--teacher-share", 1.0,
    )  # fmt: skip
    assert found["distillation"]["distilled_tokens"] == 0
    assert found["distillation"]["distilled_loss"] is None
    assert any("training comes out lower" in note for note in found["notes"])


def test_a_chip_of_ones_own_and_its_price_are_used(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "mine.json"
    path.write_text(
        json.dumps(
            {
                "name": "mine", "peak": {"bf16": 1e15}, "memory_bytes": 1e11, "bandwidth": 4e12,
                "power_w": None, "source": "measured", "quotes": [],
            }
        )
    )  # fmt: skip
    words = (
        "plan",
        "--law",
        "hoffmann_2022",
        "--flops",
        "6e21",
        "--accelerator",
        path,
        "--training-utilisation",
        0.5,
    )
    assert "no price for 'mine'" in complaint(capsys, *words)
    found = answer(capsys, *words, "--dollars-per-hour", 1.8)
    assert found["options"]["planned"]["training_dollars"]["value"] == pytest.approx(
        6e21 / 0.5e15 / 3600 * 1.8
    )


def test_prices_have_parts_a_break_even_and_the_worth_of_gains(
    runs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ("price", runs, "--loss", 2.1, "--draws", 100, *SERVED)
    found = answer(capsys, *words)
    told = found["dollars_per_million"]["planned"]
    mix = 0.8 * told["read"]["value"] + 0.2 * told["written"]["value"]
    assert told["blended"]["value"] == pytest.approx(mix + told["training"]["value"])
    assert told["blended"]["value"] < found["dollars_per_million"]["training only"]["blended"]["value"]
    assert 0 < found["break_even_tokens"]["value"] < 2e12
    worth = [g["dollars_replanned"]["value"] for g in found["gains"]]
    assert [g["gain"] for g in found["gains"]] == [0.1, 0.2, 0.3]
    assert worth == sorted(worth)
    assert found["curve"][6]["tokens"] == pytest.approx(2e12)
    assert found["curve"][6]["planned"]["value"] == pytest.approx(told["blended"]["value"])
    assert run("scale", *words) == 0
    printed = capsys.readouterr().out
    assert "pays off from" in printed
    assert "a million tokens written" in printed
    assert "30%" in printed


def test_a_table_of_prices_gives_a_trend(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "prices.csv"
    rows = "".join(
        f"{y}-01-01,chip {c},v,{4.0 * 0.8 ** (y - 2020)}\n" for y in range(2020, 2025) for c in "ab"
    )
    path.write_text("Price date,Hardware model,Vendor,Price per chip-hour (on-demand)\n" + rows)
    found = answer(capsys, "price", "--law", "hoffmann_2022", "--loss", 2.1, *SERVED, "--price-table", path)
    assert 10 ** found["price_trend"]["rate"] == pytest.approx(0.8, abs=1e-3)
    assert any("-20.0% a year" in note for note in found["notes"])


def test_the_next_run_is_proposed(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ("next", runs, "--parameters", "70B", "--tokens", "1.4T", "--budget", "3e20", "--draws", 100)
    found = answer(capsys, *words)
    assert found["runs"]
    assert found["noise"] == pytest.approx(0.005, rel=0.5)
    assert all(
        r["flops"] <= 3.01e20 and r["shrinkage"] >= 0.05 and r["after"] < r["before"] for r in found["runs"]
    )
    assert found["runs"][0] == found["best_per_flop"]
    assert found["best_within_budget"]["shrinkage"] >= found["best_per_flop"]["shrinkage"]
    assert run("scale", *words) == 0
    assert "variance removed" in capsys.readouterr().out


def test_laws_are_listed_with_what_was_found_again(capsys: pytest.CaptureFixture[str]) -> None:
    found = {law["name"]: law for law in answer(capsys, "laws")}
    assert found["sardana_2023"]["status"] == "reproduced"
    assert found["kaplan_2020"]["status"] == "nothing to compute"
    assert all(claim["agrees"] for claim in found["sardana_2023"]["claims"])
    assert run("scale", "laws") == 0
    assert "14 of 14" in capsys.readouterr().out
    assert run("scale", "laws", "sardana_2023") == 0
    assert "2.418e+10" in capsys.readouterr().out


def test_a_configuration_is_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = {
        "model_type": "llama", "num_hidden_layers": 30, "hidden_size": 576, "num_attention_heads": 9,
        "num_key_value_heads": 3, "intermediate_size": 1536, "vocab_size": 49152, "tie_word_embeddings": True,
    }  # fmt: skip
    (tmp_path / "config.json").write_text(json.dumps(config))
    found = answer(capsys, "count", tmp_path, "--tokens", "2T", "--context", 2048)
    told = {row["convention"]: row["N"] for row in found["counts"]}
    assert told["all"] == 134_515_008
    assert told["no_embedding"] == 134_515_008 - 49152 * 576
    assert run("scale", "count", tmp_path / "config.json") == 0
    assert "134,515,008" in capsys.readouterr().out


def test_runs_are_fitted_under_each_count(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = []
    for n in range(4, 14):
        model = Transformer(n, 64 * n, n, 256 * n, 50257, gated=False, tied=True)
        for tokens in np.geomspace(1e9, 1e11, 4):
            loss = Surface.of((1.7, 420.0, 900.0, 0.34, 0.32)).loss(parameters(model), tokens)[0]
            rows.append(f"{n},{64 * n},{n},{256 * n},50257,{tokens:.9g},{loss:.9g}\n")
    path = tmp_path / "runs.csv"
    path.write_text("layers,width,heads,ffn,vocabulary,tokens,loss\n" + "".join(rows))
    found = {row["convention"]: row for row in answer(capsys, "count", path, "--tied", "--ungated")}
    assert found["all"]["exponent"] == pytest.approx(0.32 / 0.66, abs=1e-4)
    assert found["all"]["parameters"]["alpha"] == pytest.approx(0.34, abs=1e-4)
    assert found["no_embedding"]["exponent"] > found["all"]["exponent"] + 0.03
    assert run("scale", "count", path, "--tied", "--ungated") == 0
    assert "a of N* ~ C^a" in capsys.readouterr().out
    path.write_text("layers,width,tokens,loss\n2,64,1e9,3.0\n2,128,2e9,2.9\n")
    assert "missing: heads, ffn, vocabulary" in complaint(capsys, "count", path)


def test_a_fit_in_a_file_is_planned_with(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "fit.json"
    five = {"E": 1.7, "A": 420.0, "B": 900.0, "alpha": 0.34, "beta": 0.32}
    path.write_text(json.dumps({"parameters": {k: {"value": v} for k, v in five.items()}}))
    plain = answer(capsys, "plan", "--law", path, "--loss", 2.1)
    path.write_text(
        json.dumps({"parameters": five, "draws": [[1.7, 420, 900, 0.34, b] for b in (0.31, 0.33)]})
    )
    drawn = answer(capsys, "plan", "--law", path, "--loss", 2.1)
    aim = ("next", "--law", path, "--parameters", "7B", "--tokens", "1T")
    assert "give --noise" in complaint(capsys, *aim)
    assert "at least 20 draws" in complaint(capsys, *aim, "--noise", 0.005)
    first, second = (f["options"]["planned"]["tokens"] for f in (plain, drawn))
    assert first["value"] == second["value"]
    assert first["low"] is None
    assert second["low"] < second["value"] < second["high"]


@pytest.mark.parametrize("ending", ["html", "png"])
def test_a_page_of_the_plan_is_written(
    ending: str, runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / f"plan.{ending}"
    assert run("scale", "plan", runs, "--loss", 2.1, "--draws", 30, *SERVED, "--page", path) == 0
    assert (
        run("scale", "price", runs, "--loss", 2.1, "--draws", 30, *SERVED, "--page", tmp_path / f"p.{ending}")
        == 0
    )
    capsys.readouterr()
    if ending == "png":
        assert path.read_bytes().startswith(b"\x89PNG")
    else:
        text = path.read_text(encoding="utf-8")
        assert text.count("<figure>") == 3
        assert "2026-09-20" in text
        # Addresses that name a format are not asked for; nothing is loaded.
        assert not re.search(r"(src|href)=\"(?!#)", text)
        assert "<script" not in text


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("plan", "--loss", 2.0), "a file of runs or --law"),
        (("plan", "--law", "hoffman", "--loss", 2.0), "Did you mean 'hoffmann_2022'"),
        (("plan", "--law", "kaplan_2020", "--loss", 2.0), "plans are not made with"),
        (("plan", "--law", "hoffmann_2022"), "one of --loss, --dollars and --flops; got none"),
        (("plan", "--law", "hoffmann_2022", "--loss", 2, "--flops", "1e22"), "got --loss and --flops"),
        (
            ("plan", "--law", "hoffmann_2022", "--dollars", "1M", "--flops", "1e22"),
            "--dollars and --flops",
        ),
        (("plan", "--law", "hoffmann_2022", "--dollars", "lots"), "such as 70B, 1.4T or 5.76e23; got 'lots'"),
        (("plan", "--law", "hoffmann_2022", "--loss", 1.5), "losses stay above E = 1.693"),
        (("plan", "--law", "hoffmann_2022", "--loss", 2, "--nominal", 90), "share between 0 and 1"),
        (
            ("plan", "--law", "hoffmann_2022", "--loss", 2, "--seconds-per-token", 0.1),
            "give --chips-per-copy",
        ),
        (
            ("plan", "--law", "hoffmann_2022", "--loss", 2, "--teacher-tokens", "1T"),
            "give --teacher-parameters",
        ),
        (("plan", "--law", "hoffmann_2022", "--loss", 2, "--accelerator", "h100"), "Did you mean 'h100-"),
        (("plan", "--law", "hoffmann_2022", "--loss", 2, "--serving-format", "fp9"), "number format"),
        (("plan", "--law", "none.json", "--loss", 2), "no file 'none.json'"),
        (("price", "--law", "hoffmann_2022", "--loss", 2), "give --read and --written"),
        (("next", "--law", "hoffmann_2022", "--parameters", "7B", "--tokens", "1T"), "has no draws"),
        (("laws", "hofmann"), "Did you mean 'hoffmann_2022'"),
        (("count", "none.json"), "no file 'none.json'"),
    ],
)
def test_wrong_input_is_one_clear_line(
    words: tuple[object, ...], told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    assert told in complaint(capsys, *words)


@pytest.mark.parametrize(
    "text",
    [
        "[]",
        "3",
        "{}",
        '{"parameters": 3}',
        '{"parameters": {"E": 1}}',
        '{"parameters": {"E": 1, "A": 1, "B": 1, "alpha": 1, "beta": "x"}}',
        '{"parameters": {"E": 1, "A": 1, "B": 1, "alpha": 1, "beta": 1}, "draws": [[1, 2]]}',
        '{"parameters": {"E": 1, "A": 1, "B": 1, "alpha": 1, "beta": 1}, "draws": {"a": 1}}',
        "{",
        '{"parameters": {"E": 1, "A": -1, "B": 1, "alpha": 1, "beta": 1}}',
    ],
)
def test_a_file_that_is_no_law_is_one_clear_line(
    text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "fit.json"
    path.write_text(text)
    assert complaint(capsys, "plan", "--law", path, "--loss", 2.0).startswith("error: ")


def test_dollars_are_shown_with_their_sign() -> None:
    assert shown(801_000, dollars=True) == "$801k"
    assert shown(float("inf"), dollars=True) == "–"
