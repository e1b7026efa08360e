from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from pellucid.scaling import alarms
from pellucid.scaling.backtest import Member, fitted
from pellucid.scaling.choice import choose
from pellucid.scaling.fit import fit
from pellucid.scaling.forecast import forecast
from pellucid.scaling.form_broken import Broken1
from pellucid.scaling.profiles import profiles
from pellucid.scaling.runs import Runs

MakeRuns = Callable[..., Runs]


def test_the_hull_is_that_of_each_coordinate(noisy: Runs) -> None:
    n, d = noisy.values["N"], noisy.values["D"]
    inside = {k: np.array([np.median(v)]) for k, v in noisy.values.items()}
    assert alarms.hull(noisy, inside) == []
    found = alarms.hull(noisy, {"N": np.array([10 * n.max()]), "D": np.array([d.max()])})
    assert len(found) == 1
    assert "N of target 1" in found[0].message
    assert "1.00 decades above" in found[0].message
    assert alarms.hull(noisy, {"N": np.array([10 * n.max()]), "D": np.array([d.max()])}, reach=1.0) == []
    ratio = alarms.hull(noisy, {"N": np.array([n.min()]), "D": np.array([d.max()])}, reach=9.0)
    assert [a.message.startswith("tokens per parameter") for a in ratio] == [True]
    few = alarms.hull(noisy, {"N": np.array([n.min() / 100, n.min() / 10])})
    assert "2.00 decades below" in few[0].message
    assert "2 of 2 targets" in few[0].message


def test_the_hull_in_one_dimension() -> None:
    own = Runs.of({"x": [1e3, 1e5]}, [3, 2]).along(None)
    found = alarms.hull(own, {"x": np.array([1e7])})
    assert [a.message for a in found] == ["x of target 1 is 10M, 2.00 decades above the runs' 100k."]
    assert alarms.hull(own, {"x": np.array([1e7])}, reach=2) == []
    assert alarms.hull(own, {"x": np.array([1e4])}) == []
    named = Runs.of({"examples": [1e3, 1e5]}, [3, 2]).along(None)
    assert "examples of target 1" in alarms.hull(named, {"examples": np.array([1e7])})[0].message
    assert alarms.hull(named, {"examples": np.array([1e7])}, reach=2) == []
    years = Runs.of({"year": [2018.0, 2024.5]}, [1, 9]).along(None)
    found = alarms.hull(years, {"year": np.array([2031.0])})
    assert [a.message for a in found] == ["year of target 1 is 2031.0, 6.50 years above the runs' 2024.5."]
    assert alarms.hull(years, {"year": np.array([2026.0])}, reach=2) == []


def test_more_epochs_than_were_run_are_outside() -> None:
    runs = Runs.of({"N": [1e8, 2e8], "D": [1e9, 4e9], "U": [1e9, 1e9]}, [3, 2.9])
    found = alarms.hull(runs, {"epochs": np.array([40.0])}, reach=9)
    assert "epochs of target 1 is 40, 1.00 decades above" in found[0].message


def test_two_new_runs_in_a_row_outside_are_drift(noisy: Runs) -> None:
    size = np.geomspace(3e9, 2e10, 4)
    made = forecast(noisy, {"N": size, "D": 20 * size}, member="chinchilla", nominal=0.95)
    assert made.high is not None
    order = np.log10(size)
    assert alarms.drift(made, made.values, order) == []
    one = made.values.copy()
    one[[0, 2]] = 1.01 * made.high[[0, 2]]
    assert alarms.drift(made, one, order) == []
    one[1] = 1.01 * made.high[1]
    found = alarms.drift(made, one, order)
    assert found[0].kind == "drift"
    assert "New runs 1 and 2" in found[0].message
    assert "3 of 4" in found[0].message


def test_a_break_inside_the_data_is_told() -> None:
    x = np.geomspace(1e4, 1e10, 30)
    rng = np.random.default_rng(0)
    truth = np.array([0.0, 4.0, 0.05, 0.5, 3e6, 0.3])
    y = Broken1().predict(truth, {"x": x})[0] * np.exp(0.002 * rng.standard_normal(30))
    members = [Member("power"), Member("power_constant"), Member("broken_1")]
    broken = Runs.of({"x": x}, y)
    choice = choose(broken, members)
    law = fitted(choice.best, broken).fit
    assert law is not None
    found = alarms.broken(choice, {str(choice.best): law})
    assert found[0].kind == "break"
    assert "changes by +0.5" in found[0].message or "changes by +0.4" in found[0].message
    plain = Runs.of({"x": x}, 4 * x**-0.05 * np.exp(0.002 * rng.standard_normal(30)))
    quiet = choose(plain, members)
    law = fitted(quiet.best, plain).fit
    assert law is not None
    assert alarms.broken(quiet, {str(quiet.best): law}) == []


def test_parameters_without_an_end_are_told(noisy: Runs) -> None:
    made = fit(noisy)
    assert alarms.unidentified(profiles(made), "E") == []
    # Six models in one decade of N, all at 20 tokens per parameter: two exponents cannot be told apart.
    n = np.geomspace(1e8, 1e9, 6)
    line = Runs.of({"N": n, "D": 20 * n * np.array([1, 1.01, 0.99, 1.01, 1, 0.99])}, 2 + 300 / n**0.3)
    found = alarms.unidentified(profiles(fit(line)), "E")
    assert {"alpha", "beta"} & {a.message.split(" ")[0] for a in found}
    assert all("cannot tell" in a.message for a in found)


def test_valleys_are_read_and_flat_ones_told(isoflop: MakeRuns) -> None:
    deep = isoflop(0.0005)
    found = alarms.valleys(deep)
    assert len(found) == 7
    assert all(v.decades < 0.1 for v in found)
    # N* of the law follows C^(β/(α+β)).
    optima = np.array([v.optimum for v in found], float)
    slope = np.polyfit(np.log([v.compute for v in found]), np.log(optima), 1)[0]
    assert slope == pytest.approx(0.37 / 0.72, abs=0.03)
    assert alarms.flat(deep) == []
    assert alarms.flat(isoflop(0.004, span=1.15))[0].kind == "flat"
    assert alarms.valleys(Runs.of({"x": [1.0, 2.0]}, [2, 1])) == []
