"""Published laws: equation, parameters, what N counts, and where they were read.

Whether this engine finds again what a law's authors published is not written here: `claims` computes it. Laws
of which no parameters were at hand are left out.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pellucid.core import files
from pellucid.core.errors import InputError, UnknownNameError
from pellucid.scaling.surface import PARAMETERS, Law

SUM_FORM = "L = E + A/N^alpha + B/D^beta"


@dataclass(frozen=True)
class PublishedLaw:
    """A law as it was published."""

    name: str
    form: str
    parameters: Mapping[str, float]
    counts: str
    """What its N counts, and other units."""
    source: str
    read: str
    """Where the parameters were read."""
    hand: Literal["first", "second", "memory"] = "first"
    """Whether that is its authors', another's, or what somebody remembered."""
    note: str = ""

    @property
    def can_plan(self) -> bool:
        """Whether it has the form that plans are made with."""
        return self.form == SUM_FORM


def published(name: str) -> PublishedLaw:
    """A law by name.

    Raises:
        UnknownNameError: when there is none.
    """
    if name not in LAWS:
        raise UnknownNameError("published law", name, LAWS)
    return LAWS[name]


def law(name: str) -> Law:
    """A law to plan with, by the name it was published under or from a file with a fit.

    A published law has no draws: nobody published any, so its plans have no intervals. The file is JSON with
    `parameters` (E, A, B, alpha and beta by name) and, if it has them, `draws` (rows of the five in that
    order).

    Raises:
        UnknownNameError: when the name is none of the registry.
        InputError: when the law has another form, or the file is no law.
    """
    if name.endswith(".json"):
        return _from_file(Path(name))
    found = published(name)
    if not found.can_plan:
        usable = ", ".join(each.name for each in LAWS.values() if each.can_plan)
        raise InputError(
            f"{name!r} has the form {found.form}, which plans are not made with. Usable: {usable}."
        )
    return Law.from_mapping(name, {p: found.parameters[p] for p in PARAMETERS})


def _from_file(path: Path) -> Law:
    value = files.read_json(path)
    if not isinstance(value, dict) or not isinstance(value.get("parameters"), dict):
        raise InputError(
            f"{str(path)!r} is no law. Expected JSON with parameters ({', '.join(PARAMETERS)} by name)."
        )
    return Law.from_mapping(path.name, value["parameters"], value.get("draws"))


LAWS = {
    each.name: each
    for each in (
        PublishedLaw(
            "hoffmann_2022",
            SUM_FORM,
            {"E": 1.6933737, "A": 406.40102, "B": 410.72283, "alpha": 0.33917084, "beta": 0.2849083},
            "N all parameters; D tokens; nats",
            "Hoffmann et al. 2022, arXiv 2203.15556, approach 3",
            "unrounded values of the TeX source, as kept in epoch-research/analyzing-chinchilla",
            note="The rounded values of the paper's body (.34, .28) move the optimum by half.",
        ),
        PublishedLaw(
            "besiroglu_2024",
            SUM_FORM,
            {"E": 1.81686, "A": 482.00572, "B": 2085.4342, "alpha": 0.34781, "beta": 0.36585},
            "N all parameters; D tokens; nats",
            "Besiroglu et al. 2024, arXiv 2404.10102",
            "epoch-research/analyzing-chinchilla, data_analysis.ipynb",
            note="A fit by least absolute errors to 240 runs read off Hoffmann's figure.",
        ),
        PublishedLaw(
            "sardana_2023",
            SUM_FORM,
            {"E": 1.69, "A": 406.4, "B": 410.7, "alpha": 0.336, "beta": 0.283},
            "N all parameters; D tokens; nats",
            "Sardana et al. 2023, arXiv 2401.00448",
            "README of nikhilsardana/beyond-chinchilla",
            note="Hoffmann's law with less rounding, which their figures of inference-aware plans stand on.",
        ),
        PublishedLaw(
            "muennighoff_2023",
            SUM_FORM,
            {
                "E": 1.8691437,
                "A": 520.82495,
                "B": 1487.7161,
                "alpha": 0.3526596,
                "beta": 0.3526596,
                "tokens_constant": 15.387756,
                "parameters_constant": 5.309743,
            },
            "N all parameters; D tokens; nats; with text short, the law of `repetition`",
            "Muennighoff et al. 2023, arXiv 2305.16264, appendix A",
            "appendix A (the constants of repetition), and the logs of A, B and E in the authors' notebook",
            note="Fitted on C4. The two constants of repetition came without an interval.",
        ),
        PublishedLaw(
            "soda_2026",
            SUM_FORM,
            {"E": 3.169, "A": 215886.0, "B": 4750.0, "alpha": 0.684, "beta": 0.439},
            "speech and text; N and D as in the paper",
            "arXiv 2602.16687",
            "Open-Athena/scaling-law-analysis, experiments/common.py",
            "second",
        ),
        PublishedLaw(
            "sparse_multimodal_2025",
            SUM_FORM,
            {"E": 2.158, "A": 381773.0, "B": 4659.0, "alpha": 0.71, "beta": 0.372},
            "images and text, sparse models; N and D as in the paper",
            "arXiv 2504.07951",
            "Open-Athena/scaling-law-analysis, experiments/common.py",
            "second",
        ),
        PublishedLaw(
            "kaplan_2020",
            "L = ((Nc/N)^(alpha_N/alpha_D) + Dc/D)^alpha_D",
            {"Nc": 6.4e13, "Dc": 1.8e13, "alpha_N": 0.076, "alpha_D": 0.103},
            "N without embeddings; D tokens; nats",
            "Kaplan et al. 2020, arXiv 2001.08361",
            "hadasah/scaling_laws, paper_analysis_and_plots.py",
            "second",
        ),
        PublishedLaw(
            "kaplan_2020_optimum",
            "N* = k · (C/8.64e19)^a",
            {"k": 1.3e9, "a": 0.73},
            "N without embeddings; C in FLOPs (8.64e19 is a petaflop/s-day)",
            "Kaplan et al. 2020, arXiv 2001.08361; exponent also in arXiv 2406.12907",
            "formll/resolving-scaling-law-discrepancies, plotting.py",
            "second",
            "Counting embeddings moves the exponent: see the explanation of accounting.",
        ),
        PublishedLaw(
            "step_law_2025",
            "lr = k_lr · N^a_lr · D^b_lr;  batch = k_batch · D^b_batch",
            {"k_lr": 1.797, "a_lr": -0.713, "b_lr": 0.3075, "k_batch": 0.581, "b_batch": 0.571},
            "N without embeddings; batch in tokens",
            "step-law 2025, arXiv 2503.04715",
            "mean of the bootstrap rows of their repository",
            note="Their shipped code gives other exponents (step-law issue 10).",
        ),
        PublishedLaw(
            "busbridge_2025",
            "L_S = L_T + L_T^-c0 · (1 + (L_T/(L·d1))^(1/f1))^(-c1·f1) · (A'/N^alpha' + B'/D^beta')^gamma'",
            {"c0": 2.549, "c1": 522.61, "d1": 1.315, "f1": 0.090},
            "N without embeddings; D tokens; nats",
            "Busbridge et al. 2025, arXiv 2502.08606, eq. 8",
            "typed from memory of the appendix, and found nowhere to compare them with",
            "memory",
            "The six supervised coefficients beside them, in `distillation`, agree with public code. The "
            "abstract's claims follow, which proves no digit.",
        ),
        PublishedLaw(
            "epoch_price_performance",
            "FLOP/s per dollar ~ 10^(rate · years)",
            {"rate": 0.14},
            "purchase prices of graphics processors",
            "Epoch AI, training-cost-trends, cost_analysis_standalone.py",
            "the script's constants",
        ),
    )
}
