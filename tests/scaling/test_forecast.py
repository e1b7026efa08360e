from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from scipy import stats

from pellucid.core.errors import InputError, UnknownNameError
from pellucid.scaling.backtest import LAST, Member
from pellucid.scaling.choice import choose
from pellucid.scaling.forecast import Missed, forecast, half_width, student, targets_of
from pellucid.scaling.form_chinchilla import Chinchilla
from pellucid.scaling.form_sigmoid import Sigmoid
from pellucid.scaling.runs import Runs

MakeRuns = Callable[..., Runs]


@pytest.mark.parametrize("freedom", [1, 2, 3, 8, 30])
@pytest.mark.parametrize("share", [0.6, 0.75, 0.95, 0.975])
def test_student_is_that_of_scipy(share: float, freedom: int) -> None:
    assert student(share, freedom) == pytest.approx(stats.t.ppf(share, freedom), rel=1e-5)


def test_the_half_width_by_hand() -> None:
    errors, distances = np.array([0.01, 0.03, 0.02, 0.04]), np.array([0.0, 1.0, 1.0, 3.0])
    scored = [Missed(errors[:2], distances[:2], 0.01, 2), Missed(errors[2:], distances[2:], 0.01, 2)]
    scores = np.array([1.0, 1.5, 1.0, 1.0])
    q = np.quantile(scores, 0.8 * 1.25)
    wide = stats.t.ppf(0.9, 2) / stats.norm.ppf(0.9)
    found = half_width(scored, 0.8, 0.02, np.array([0.0, 2.0]))
    assert found is not None
    np.testing.assert_allclose(found, wide * q * 0.02 * np.array([1, 3]), rtol=1e-5)
    assert half_width([], 0.8, 0.02, np.array([0.0])) is None
    plain = half_width(scored, 0.8, 0.02, np.array([0.0, 2.0]), growth=0, widened=False)
    np.testing.assert_allclose(plain, np.quantile(errors / 0.01, 1.0) * 0.02)


def test_intervals_cover_simulated_runs(isoflop: MakeRuns, law: np.ndarray) -> None:
    at = {"N": np.geomspace(3e8, 3e10, 6), "D": 20 * np.geomspace(3e8, 3e10, 6)}
    truth = Chinchilla().predict(law, at)[0]
    covered = []
    for seed in range(12):
        rng = np.random.default_rng(100 + seed)
        made = forecast(isoflop(0.005, seed=seed), at, member="chinchilla", nominal=0.9)
        covered.append(made.covers(truth * np.exp(0.005 * rng.standard_normal(6))).mean())
    assert 0.85 <= np.mean(covered) <= 1.0


def test_an_interval_grows_with_distance_and_with_what_it_must_cover(noisy: Runs) -> None:
    at = {"N": np.geomspace(1e9, 1e11, 5), "D": np.geomspace(2e10, 2e12, 5)}
    widths = []
    for nominal in (0.5, 0.9):
        made = forecast(noisy, at, member="chinchilla", nominal=nominal)
        assert made.low is not None
        assert made.high is not None
        widths.append(np.log(made.high / made.low))
        assert (np.diff(widths[-1][made.distance > 0]) > 0).all()
    assert (widths[1] > widths[0]).all()


def test_the_ensemble_forecasts_better_than_the_last_value(noisy: Runs, law: np.ndarray) -> None:
    at = {"N": np.array([7e9, 7e10]), "D": np.array([1.4e11, 1.4e12])}
    truth = Chinchilla().predict(law, at)[0]
    made, last = forecast(noisy, at), forecast(noisy, at, member=LAST)
    assert made.member == "ensemble"
    assert np.abs(made.values / truth - 1).max() < 0.02
    assert np.abs(last.values / truth - 1).max() > 0.05
    np.testing.assert_allclose(made.distance, np.log10(6 * 1.4 * np.array([7e20, 7e22]) / 1e21), atol=1e-9)
    assert made.origins == 4


def test_checkpoints_written_again_do_not_shrink_an_interval(isoflop: MakeRuns) -> None:
    runs = isoflop(0.004)
    again = np.repeat(np.arange(len(runs)), 5)
    jitter = np.exp(1e-6 * np.random.default_rng(0).standard_normal(len(again)))
    many = Runs.of(
        {"N": runs.values["N"][again] * jitter, "D": runs.values["D"][again]}, runs.y[again], run=again
    )
    at = {"N": [7e10], "D": [1.4e12]}
    one, five = (forecast(r.along("C"), at, member="chinchilla") for r in (runs, many))
    assert one.low is not None
    assert one.high is not None
    assert five.low is not None
    assert five.high is not None
    assert np.log(five.high / five.low)[0] > 0.9 * np.log(one.high / one.low)[0]


def test_members_whose_variables_targets_lack_are_left_out(isoflop: MakeRuns) -> None:
    runs = isoflop(0.004)
    shape = {"width": 100 * runs.values["N"] ** 0.1, "depth": runs.values["N"] ** 0.2}
    wide = Runs.of({**{k: runs.values[k] for k in "ND"}, **shape}, runs.y).along("C")
    made = forecast(wide, {"N": [7e9], "D": [1.4e11]})
    assert "Left out: width_depth, width_depth (squares). Targets have no depth and no width." in made.notes
    plain = forecast(runs.along("C"), {"N": [7e9], "D": [1.4e11]})
    assert made.values[0] == pytest.approx(plain.values[0])


def test_a_variable_that_the_runs_lack_is_refused(noisy: Runs) -> None:
    for strange in ("width", "epochs", "x"):
        with pytest.raises(InputError, match=f"The runs have no '{strange}'.*they have N, D, C"):
            forecast(noisy, {"N": [7e9], "D": [1.4e11], strange: [4.0]})


def test_few_held_out_runs_are_told(isoflop: MakeRuns) -> None:
    at = {"N": [7e9], "D": [1.4e11]}
    few = forecast(isoflop(0.004, levels=3, sizes=3), at, member="tied")
    assert "rests on 3 held-out trainings: even the worst miss of so few covers 75%" in few.notes[-1]
    assert forecast(isoflop(0.004), at, member="tied").notes == ()


def test_where_there_is_no_trend_that_is_told() -> None:
    x = np.geomspace(1e3, 1e6, 24)
    flat = Runs.of({"x": x}, 2 + 9 / x)
    made = forecast(flat, {"x": [1e7]}, choice=choose(flat, [Member("power")]))
    assert [n for n in made.notes if n.startswith("No form forecast better")]


def test_the_checkpoints_of_one_training_forecast_its_later_ones() -> None:
    x = np.geomspace(1e6, 1e9, 300)
    y = (1.5 + 30 * x**-0.25) * np.exp(0.003 * np.random.default_rng(0).standard_normal(300))
    made = forecast(Runs.of({"x": x}, y, run=["a"] * 300), {"x": [4e9]}, member="power_constant")
    assert made.values[0] == pytest.approx(1.5 + 30 * 4e9**-0.25, rel=0.01)
    assert made.low is not None
    assert made.origins == 8


def test_accuracy_of_a_lower_loss() -> None:
    loss = np.linspace(3.5, 2.0, 20)
    y = Sigmoid().predict(np.array([0.25, 0.6, 4.0, 2.6]), {"loss": loss})[0]
    runs = Runs.of({"loss": loss}, y, metric="accuracy").along(None)
    made = forecast(runs, {"loss": [1.9]})
    assert made.values[0] == pytest.approx(0.25 + 0.6 / (1 + np.exp(4 * (1.9 - 2.6))), rel=1e-4)
    assert made.distance[0] > 0


def test_without_backtests_there_is_no_interval() -> None:
    runs = Runs.of({"x": [1e3, 1e4, 1e5, 1e6]}, [4, 3, 2.5, 2.2])
    made = forecast(runs, {"x": [1e7]}, member="power")
    assert made.low is None
    assert "no calibrated interval" in made.notes[0]


def test_targets_take_what_they_need(noisy: Runs) -> None:
    assert targets_of(noisy, {"N": [1e9], "C": [6e19]}).values["D"][0] == pytest.approx(1e10)
    along_d = noisy.along("D")
    assert targets_of(along_d, {"N": [1e9], "D": [1e10]}).values["x"].tolist() == [1e10]
    with pytest.raises(InputError, match="needs 'C'"):
        targets_of(noisy, {"N": [1e9]})
    with pytest.raises(InputError, match="nominal share between 0 and 1"):
        forecast(noisy, {"N": [1e9], "D": [1e10]}, nominal=1.0)
    with pytest.raises(UnknownNameError, match="chinchilla"):
        forecast(noisy, {"N": [1e9], "D": [1e10]}, member="chinchila")
    with pytest.raises(InputError, match="target 1, 'N'"):
        forecast(noisy, {"N": [-1.0], "D": [1e10]}, member=Member("tied"))
