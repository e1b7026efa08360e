"""The full evaluation of a dictionary: sparse probing, feature absorption, dense features, on one ground.

Beside the dictionary stand random directions (as many, with the same L0), the coordinates of the activation
("neurons") and a dense probe on them. The figures of every set are kept, by the digest of the dictionary.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import cache
from typing import Any

import numpy as np
import torch

from pellucid.core import kept
from pellucid.core.errors import InputError
from pellucid.core.progress import Progress, silent
from pellucid.dictionaries import absorption, probing
from pellucid.dictionaries.base import Dictionary
from pellucid.dictionaries.baselines import random_dictionary
from pellucid.dictionaries.figures import Figure, mean_over_groups, resampled, resampled_at_once
from pellucid.dictionaries.ground import VERSION, Ground
from pellucid.dictionaries.ports import Ports

_DENSE = 0.1
"""A feature that is active on a larger share of tokens is dense."""
_BLOCKS = 64


@dataclass(frozen=True)
class Evaluation:
    """What a dictionary does on a ground, beside its baselines."""

    sets: int
    groups: int
    """Groups of sets that share texts; intervals draw these."""
    probing: dict[str, dict[str, Figure]]
    """Mean AUC by method (`dictionary`, `random`, `neurons`, `dense`) and by number of features (`1`, `5`,
    `all`)."""
    gains: dict[str, Figure]
    """By number of features: the dictionary's AUC less that of neurons, set by set; for `all` less the dense
    probe's."""
    by_set: dict[str, dict[str, Any]]
    """By set: what was asked, and each method's AUCs."""
    absorption: dict[str, dict[str, Any] | None]
    """By method (`dictionary`, `random`); None where the model knows no letter."""
    tokens: int
    """Tokens behind the figures below: one of each text of the sets."""
    unexplained: dict[str, Figure]
    """By method."""
    l0: dict[str, Figure]
    """By method."""
    dense: dict[str, Figure]
    """By method: the share of features active on more than a tenth of the tokens."""
    seconds: dict[str, float]
    """What it took this time: `ground`, `dictionary`, and `random`, its baseline."""

    def as_json(self) -> dict[str, Any]:
        """As JSON values."""
        return asdict(self)


def evaluate(
    ground: Ground, dictionary: Dictionary, digest: str, *, progress: Progress = silent
) -> Evaluation:
    """Measure a dictionary on a ground.

    Args:
        ground: of the dictionary's site and model.
        dictionary: what to measure; on the processor, where the probes are fitted.
        digest: names the dictionary's weights; what was kept under it is taken.
        progress: told of sets.

    Raises:
        InputError: when the ground is of another site or model.
    """
    if (dictionary.ports, dictionary.model_digest) != (Ports.of(ground.site), ground.model.digest):
        raise InputError(
            f"The dictionary is of {dictionary.ports}, and what was read for it is of {ground.site}; or the "
            "models differ. Read the one site that the dictionary reads and writes."
        )
    started = time.monotonic()
    here = dictionary.to("cpu")
    own = _measured(ground, lambda: here, {"dictionary": digest}, progress)
    k = max(1, round(own.sample["l0"]["value"]))
    between = time.monotonic()

    @cache
    def by_chance() -> Dictionary:
        return random_dictionary(
            torch.from_numpy(ground.usable),
            features=dictionary.num_features,
            k=k,
            ports=dictionary.ports,
            model_digest=ground.model.digest,
        )

    method = {"random": [dictionary.num_features, k, ground.digest]}
    chance = _measured(ground, by_chance, method, progress)
    ended = time.monotonic()
    figures, gains, by_set = _summary(ground, own.aucs, chance.aucs)
    both = {"dictionary": own, "random": chance}
    return Evaluation(
        sets=len(ground.sets),
        groups=int(ground.groups.max()) + 1,
        probing=figures,
        gains=gains,
        by_set=by_set,
        absorption={name: m.absorption for name, m in both.items()},
        tokens=len(ground.usable),
        **{
            figure: {name: Figure(**m.sample[figure]) for name, m in both.items()}
            for figure in ("unexplained", "l0", "dense")
        },
        seconds={"ground": ground.seconds, "dictionary": between - started, "random": ended - between},
    )


@dataclass(frozen=True)
class _Measured:
    """One dictionary, or random directions, on a ground."""

    sample: dict[str, Any]
    aucs: list[dict[str, Any]]
    absorption: dict[str, Any] | None


def _measured(
    ground: Ground, made: Callable[[], Dictionary], method: dict[str, Any], progress: Progress
) -> _Measured:
    """What is kept of a dictionary, and the rest measured; it is asked for only if it is needed."""
    key = {"version": VERSION, "ground": ground.digest, "method": method}

    def absorbed() -> dict[str, Any] | None:
        words = ground.spelling
        codes = made().encode(torch.from_numpy(words.activations))
        with probing.one_thread():
            found = absorption.measure(made(), codes, words, ground.probes)
        return None if found is None else asdict(found)

    return _Measured(
        kept.json_value("sample", key, lambda: _on_sample(made(), ground.usable)),
        ground.probe(method, lambda: made().encode(torch.from_numpy(ground.endings.last)), progress),
        kept.json_value("absorption", key, absorbed),
    )


def _on_sample(dictionary: Dictionary, x: np.ndarray) -> dict[str, Any]:
    """Reconstruction, L0 and dense features on ordinary tokens; the bootstrap draws blocks of texts."""
    values = torch.from_numpy(x)
    codes = dictionary.encode(values)
    blocks = np.array_split(np.arange(len(x)), min(_BLOCKS, len(x)))
    errors = (dictionary.decode(codes) - values).square().sum(1).double().numpy()
    spreads = (values - values.mean(0)).square().sum(1).double().numpy()
    active = codes.offsets.diff().double().numpy()
    fired = np.stack(
        [
            np.bincount(
                codes.features[codes.offsets[b[0]] : codes.offsets[b[-1] + 1]].numpy(),
                minlength=dictionary.num_features,
            )
            for b in blocks
        ]
    ).astype(np.float32)
    sizes = np.array([len(b) for b in blocks], np.float32)
    error, spread, l0 = (np.array([v[b].sum() for b in blocks]) for v in (errors, spreads, active))

    def dense(times: np.ndarray) -> np.ndarray:
        found: np.ndarray = (times @ fired > _DENSE * (times @ sizes)[:, None]).mean(1)
        return found

    figures = {
        "unexplained": resampled(len(blocks), lambda d: float(error[d].sum() / spread[d].sum())),
        "l0": resampled(len(blocks), lambda d: float(l0[d].sum() / sizes[d].sum())),
        "dense": resampled_at_once(len(blocks), dense),
    }
    return {name: asdict(figure) for name, figure in figures.items()}


def _summary(
    ground: Ground, own: list[dict[str, Any]], chance: list[dict[str, Any]]
) -> tuple[dict[str, dict[str, Figure]], dict[str, Figure], dict[str, dict[str, Any]]]:
    """Means over the sets, differences set by set, and each set by itself."""

    def columns(aucs: list[dict[str, Any]]) -> dict[str, np.ndarray]:
        few = {str(c): np.array([a["few"][str(c)] for a in aucs]) for c in probing.COUNTS}
        return {**few, "all": np.array([a["all"] for a in aucs])}

    methods = {
        "dictionary": columns(own),
        "random": columns(chance),
        "neurons": {str(c): np.array(ground.plain[f"neurons {c}"]) for c in probing.COUNTS},
        "dense": {"all": np.array(ground.plain["dense"])},
    }
    figures = {
        method: {count: mean_over_groups(values, ground.groups) for count, values in by.items()}
        for method, by in methods.items()
    }
    peers = {**methods["neurons"], **methods["dense"]}
    gains = {
        count: mean_over_groups(values - peers[count], ground.groups)
        for count, values in methods["dictionary"].items()
    }
    by_set = {
        one.name: {
            "asks": one.question,
            "group": int(ground.groups[i]),
            **{m: {count: float(values[i]) for count, values in by.items()} for m, by in methods.items()},
        }
        for i, one in enumerate(ground.sets)
    }
    return figures, gains, by_set
