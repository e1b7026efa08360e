from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from pellucid.core.errors import InputError, UnknownNameError
from pellucid.scaling import claims, registry
from pellucid.scaling.claims import CLAIMS, Claim, Outcome
from pellucid.scaling.distillation import DistillationLaw

LAW = registry.LAWS["besiroglu_2024"]


def test_every_law_says_where_it_is_from() -> None:
    for name, law in registry.LAWS.items():
        assert law.name == name
        assert law.source
        assert law.read
        assert law.counts
        assert law.parameters


def test_laws_of_the_form_can_be_planned_with_and_others_say_why_not() -> None:
    for name, law in registry.LAWS.items():
        if law.can_plan:
            assert registry.law(name).surface.loss(1e9, 2e10)[0] > law.parameters["E"]
        else:
            with pytest.raises(InputError, match=r"has the form .*Usable: hoffmann_2022"):
                registry.law(name)
    with pytest.raises(UnknownNameError, match="Did you mean 'hoffmann_2022'"):
        registry.law("hofman_2022")


@pytest.mark.parametrize("claim", CLAIMS, ids=lambda c: f"{c.law}: {c.what}")
def test_what_was_published_is_found_again(claim: Claim) -> None:
    outcome = Outcome(claim, claim.compute())
    assert outcome.agrees, f"{outcome.computed} against {claim.published}"


def test_a_figure_that_is_off_by_its_last_digit_differs() -> None:
    claim = Claim("hoffmann_2022", "", 2.418e10, 4, lambda: 0.0)
    assert Outcome(claim, 2.41849e10).agrees
    assert Outcome(claim, 2.4176e10).agrees
    assert not Outcome(claim, 2.41851e10).agrees
    assert not Outcome(claim, float("nan")).agrees


def test_the_state_of_a_law_follows_from_its_claims() -> None:
    good = Outcome(Claim("x", "", 1.0, 1, lambda: 1.0), 1.0)
    bad = dataclasses.replace(good, computed=2.0)
    assert claims.status(LAW, [good]) == "reproduced"
    assert claims.status(LAW, [good, bad]) == "differs"
    assert claims.status(LAW, []) == "nothing to compute"
    remembered = registry.LAWS["busbridge_2025"]
    assert claims.status(remembered, claims.check("busbridge_2025")) == "unverified"
    assert claims.status(remembered, [bad]) == "differs"
    assert claims.check("kaplan_2020") == []
    assert {c.law for c in CLAIMS} <= set(registry.LAWS)


def test_a_law_is_fitted_again_where_its_runs_are(tmp_path: Path) -> None:
    assert claims.check("besiroglu_2024", tmp_path) == claims.check("besiroglu_2024")
    N = np.repeat(np.geomspace(5e7, 1e10, 9), 5)
    D = N * np.tile([3.0, 10.0, 20.0, 60.0, 200.0], 9)
    loss = registry.law("besiroglu_2024").surface.loss(N, D)
    outliers = "".join(f"{1e8},{1e9},{9 + k}\n" for k in range(5))
    rows = "".join(f"{n:.12g},{d:.12g},{y:.12g}\n" for n, d, y in zip(N, D, loss, strict=True))
    (tmp_path / "chinchilla_epoch_svg.csv").write_text("N,D,loss\n" + rows + outliers)
    found = claims.check("besiroglu_2024", tmp_path)
    assert len(found) == 6
    assert claims.status(LAW, found) == "reproduced", [o for o in found if not o.agrees]


def test_the_coefficients_of_distillation_stand_in_one_place() -> None:
    law, listed = DistillationLaw(), registry.LAWS["busbridge_2025"].parameters
    assert listed == {name: getattr(law, name) for name in listed}
