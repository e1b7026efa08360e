from __future__ import annotations

import re
import sys
from pathlib import Path

import numpy as np
import pytest

from pellucid.core.errors import InputError, MissingDependencyError
from pellucid.scaling import page
from pellucid.scaling.choice import choose
from pellucid.scaling.fit import fit
from pellucid.scaling.forecast import forecast
from pellucid.scaling.profiles import profiles
from pellucid.scaling.runs import Runs
from pellucid.scaling.uncertainty import bootstrap


def test_a_fit_has_one_page_that_asks_nothing_of_the_network(noisy: Runs, tmp_path: Path) -> None:
    law = fit(noisy)
    made = page.of_fit(bootstrap(law, 50), profiles(law)[:2], notes=law.runs.notes)
    page.write(tmp_path / "fit.html", made)
    text = (tmp_path / "fit.html").read_text()
    assert text.count("<svg") == len(made.panels) == 5
    assert re.findall(r'(?:src|href)="(?!#|data:)', text.replace("xlink:href", "href")) == []
    assert "@import" not in text
    assert "Profile of A" in text
    assert "C is derived" in text
    page.write(tmp_path / "fit.png", made)
    assert (tmp_path / "fit.png").read_bytes().startswith(b"\x89PNG")


def test_what_a_file_says_cannot_leave_its_place(tmp_path: Path) -> None:
    panel = page.Panel("<b>", "<script>alert(1)</script>", lambda axes: axes.plot([1, 2]))
    page.write(tmp_path / "a.html", page.Page("<i>", "s", (panel,), ("h",), (("<td>",),), ("<u>",)))
    text = (tmp_path / "a.html").read_text()
    assert "<script>" not in text
    assert "<td><td>" not in text


def test_a_forecast_has_its_page(noisy: Runs, tmp_path: Path) -> None:
    choice = choose(noisy)
    at = {"N": np.array([7e9, 7e10]), "D": np.array([1.4e11, 1.4e12])}
    made = forecast(noisy, at, choice=choice)
    for outcomes in (None, made.values * 1.01):
        page.write(tmp_path / "a.html", page.of_forecast(noisy, made, choice, outcomes))
        assert "90% interval" in (tmp_path / "a.html").read_text()


def test_forms_of_one_variable_have_pages(tmp_path: Path) -> None:
    years = np.linspace(2015, 2025, 12)
    runs = Runs.of({"year": years}, np.exp(0.9 * (years - 2020)))
    law = fit(runs, "trend")
    page.write(tmp_path / "a.png", page.of_fit(bootstrap(law, 20), profiles(law)))
    made = forecast(runs, {"year": [2027.0]}, member="trend")
    page.write(tmp_path / "b.png", page.of_forecast(runs, made, None, None))
    assert made.values[0] == pytest.approx(np.exp(6.3), rel=1e-6)


def test_names_and_libraries_that_are_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match=r"\.html or \.png"):
        page.write(tmp_path / "a.pdf", page.Page("", "", ()))
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(MissingDependencyError, match="eval"):
        page.write(tmp_path / "a.png", page.Page("", "", ()))
