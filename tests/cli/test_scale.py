"""The verbs that fit and forecast: what they print, their JSON, and the status a pipeline can stop at."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pellucid.scaling import checks
from pellucid.scaling.form_chinchilla import Chinchilla
from tests.cli import shell

LAW = np.array([1.8, 480.0, 2100.0, 0.35, 0.37])


def written(path: Path, c: np.ndarray, noise: float, extra: str = "") -> Path:
    rng = np.random.default_rng(0)
    lines = ["Model Size,Training FLOP,loss"]
    for compute in c:
        for factor in np.geomspace(0.25, 4, 7):
            n = np.sqrt(compute / 120) * factor
            y = Chinchilla().predict(LAW, {"N": n, "D": compute / (6 * n)})[0, 0]
            lines.append(f"{n:.6g},{compute:.6g},{y * np.exp(noise * rng.standard_normal()):.8g}")
    path.write_text("\n".join(lines) + "\n" + extra)
    return path


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return written(tmp_path_factory.mktemp("scale") / "runs.csv", np.geomspace(1e18, 1e21, 7), 0.003)


def run(*words: object) -> int:
    """Run a command of the room; its exit code."""
    return shell.run("scale", *words)


def told(capsys: pytest.CaptureFixture[str], *words: object, code: int = 0) -> dict[str, Any]:
    """What a verb says as JSON."""
    assert run(*words, "--json") == code
    return dict(json.loads(capsys.readouterr().out))


def test_fit(runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = told(capsys, "fit", runs, "--draws", 200)
    assert found["form"] == "chinchilla"
    assert list(found["parameters"]) == ["E", "A", "B", "alpha", "beta"]
    alpha = found["parameters"]["alpha"]
    assert alpha["value"] == pytest.approx(0.35, abs=0.02)
    assert alpha["bootstrap_95"][0] < alpha["value"] < alpha["bootstrap_95"][1]
    assert alpha["profile_95"][0] < alpha["value"] < alpha["profile_95"][1]
    assert set(found["beside"]) == {"l1", "squares"}
    assert "N is column 'Model Size'." in found["notes"]
    assert run("fit", runs, "--draws", 50, "--form", "tied", "--drop-highest", 2) == 0
    printed = capsys.readouterr()
    assert "tied: L = E" in printed.out
    assert "2 of 49 rows cut" in printed.err
    page = tmp_path / "fit.png"
    one = told(capsys, "fit", runs, "--draws", 50, "--form", "power_constant", "--x", "D", "--page", page)
    assert page.exists()
    assert list(one["parameters"]) == ["E", "A", "alpha"]


def test_forecast(runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = told(
        capsys, "forecast", runs, "--at", "N=7B,D=140B", "N=70B,D=1.4T", "--page", tmp_path / "f.html"
    )
    truth = Chinchilla().predict(LAW, {"N": np.array([7e9, 7e10]), "D": np.array([1.4e11, 1.4e12])})[0]
    assert found["member"] == "ensemble"
    for target, y in zip(found["targets"], truth, strict=True):
        assert target["low"] < y < target["high"]
    assert {a["kind"] for a in found["alarms"]} == {"hull"}
    assert "last" in {r["member"] for r in found["ranking"]}
    assert sum(r["weight"] for r in found["ranking"]) == pytest.approx(1)
    new = written(tmp_path / "new.csv", np.array([4e21]), 0.003)
    assert run("forecast", runs, "--targets", new, "--form", "chinchilla") == 0
    printed = capsys.readouterr()
    assert "off by" in " ".join(printed.out.split())
    assert "7 outcomes, " in printed.err


@pytest.fixture
def once(monkeypatch: pytest.MonkeyPatch) -> None:
    """What takes long in a check, and depends on the runs alone, is computed once for the same runs."""

    def kept(compute: Callable[..., Any]) -> Callable[..., Any]:
        found: dict[tuple[Any, ...], Any] = {}

        def get(of: Any, *more: Any) -> Any:
            key = str(getattr(of, "runs", of).y.tolist()), *map(str, more)
            if key not in found:
                found[key] = compute(of, *more)
            return found[key]

        return get

    for name in ("choose", "profiles"):
        monkeypatch.setattr(checks, name, kept(getattr(checks, name)))


@pytest.mark.usefixtures("once")
def test_check_stops_a_pipeline(runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    inside = told(capsys, "check", runs, "--at", "N=1B,D=20B")
    assert inside["alarms"] == []
    assert set(inside["looked_for"]) == {"hull", "identity", "flat"}
    far = told(capsys, "check", runs, "--at", "N=1B,D=100T", code=3)
    assert {a["kind"] for a in far["alarms"]} == {"hull"}
    assert told(capsys, "check", runs, "--at", "N=10B,D=200B", "--reach", 2)["alarms"] == []
    new = written(tmp_path / "new.csv", np.array([4e21]), 0.003)
    assert told(capsys, "check", runs, "--new", new)["alarms"] == []
    lines = new.read_text().splitlines()
    worse = [lines[0], *(f"{a},{b},{1.1 * float(y)}" for a, b, y in (row.split(",") for row in lines[1:]))]
    new.write_text("\n".join(worse))
    drifted = told(capsys, "check", runs, "--new", new, code=3)
    assert {a["kind"] for a in drifted["alarms"]} == {"drift"}
    assert run("check", runs, "--new", new) == 3
    assert "drift" in capsys.readouterr().out


def test_bench(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "curves.csv"
    rows = [
        f"{task},{x},{base + 9 * x**-0.3},{int(i < 9)}"
        for task, base in (("a", 1), ("b", 2))
        for i, x in enumerate(np.geomspace(1e3, 1e7, 12))
    ]
    path.write_text("\n".join(["task,seen,y,fit", *rows]))
    options = ("--metric", "y", "--column", "x=seen", "--group", "task", "--split", "fit")
    found = told(capsys, "bench", path, *options, "--form", "power", "power_constant")
    assert {r["member"] for r in found["rows"]} == {"power", "power_constant", "last", "ensemble"}
    assert found["curves"] == ["a", "b"]
    assert run("bench", path, *options, "--form", "power") == 0
    assert "mean RMS log error" in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("fit", "none.csv"), "There is no file"),
        (("fit", "{runs}", "--form", "chincilla"), "Did you mean 'chinchilla'?"),
        (("fit", "{runs}", "--loss", "l3"), "There is no loss"),
        (("fit", "{runs}", "--column", "N"), "Expected a variable and a column"),
        (("fit", "{runs}", "--page", "a.pdf"), ".html or .png"),
        (("forecast", "{runs}"), "Name what to forecast"),
        (("forecast", "{runs}", "--at", "N=x,D=2"), "A target is written like"),
        (("forecast", "{runs}", "--at", "N=1,D=2", "N=3"), "all with the same variables"),
        (("forecast", "{runs}", "--at", "N=1e9"), "'C'"),
        (("forecast", "{runs}", "--at", "N=1e9,D=2e10,epochs=4"), "The runs have no 'epochs'"),
        (("fit", "{runs}", "--metric", "1 - loss"), "from 0 to below 1 for '1 - loss'"),
        (("forecast", "{runs}", "--at", "N=1e9,D=1e9", "--targets", "{runs}"), "not by both"),
        (("bench", "{runs}", "--held-out", "1.5"), "Cannot hold out"),
    ],
)
def test_mistakes_are_one_line(
    runs: Path, words: tuple[str, ...], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(*(str(runs) if w == "{runs}" else w for w in words)) == 1
    printed = capsys.readouterr()
    assert printed.err.startswith("error: ")
    assert message in printed.err
    assert "Traceback" not in printed.err
