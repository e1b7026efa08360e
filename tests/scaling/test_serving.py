from __future__ import annotations

import pytest

from pellucid.core.errors import InputError
from pellucid.scaling.hardware import Use, accelerator
from pellucid.scaling.serving import Deployment

H100 = Use(accelerator("h100-sxm"), "fp8", 0.5)


def test_limits_are_what_the_chip_gives() -> None:
    limits = Deployment(
        H100,
        chips=2,
        kept_share=0.25,
        bandwidth_utilisation=0.5,
        prompt_tokens=2000,
        seconds_per_token=0.02,
        seconds_to_first_token=0.5,
    ).limits()
    assert limits["memory"] == pytest.approx(2 * 80e9 * 0.75)
    # Two chips read 3.35e12 bytes a second each at half speed: a byte for each parameter in 0.02 s.
    assert limits["seconds per token"] == pytest.approx(3.35e12 * 0.02)
    assert limits["seconds to the first token"] == pytest.approx(2 * 1978.9e12 * 0.5 * 0.5 / 4000)


def test_the_tightest_limit_counts() -> None:
    roomy = Deployment(H100, chips=8)
    assert roomy.tightest == "memory"
    assert roomy.most_parameters == pytest.approx(8 * 80e9 * 0.8)
    quick = Deployment(H100, chips=8, seconds_per_token=0.005)
    assert quick.tightest == "seconds per token"
    assert quick.most_parameters < roomy.most_parameters
    prompt = Deployment(H100, chips=8, seconds_to_first_token=0.01, prompt_tokens=100_000)
    assert prompt.tightest == "seconds to the first token"


def test_fewer_bytes_for_a_weight_allow_a_larger_model() -> None:
    wide = Deployment(Use(accelerator("h100-sxm"), "bf16", 0.5), seconds_per_token=0.02)
    narrow = Deployment(H100, seconds_per_token=0.02)
    assert narrow.limits()["memory"] == 2 * wide.limits()["memory"]
    assert narrow.limits()["seconds per token"] == 2 * wide.limits()["seconds per token"]


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"chips": 0}, "at least one chip"),
        ({"prompt_tokens": 0}, "one token of prompt"),
        ({"kept_share": 1.0}, "kept share from 0"),
        ({"bandwidth_utilisation": 0.0}, "bandwidth utilisation above 0"),
        ({"seconds_per_token": 0.0}, "seconds per token above 0"),
        ({"seconds_to_first_token": float("nan")}, "seconds to first token above 0"),
    ],
)
def test_limits_that_mean_nothing_are_refused(change: dict[str, object], complaint: str) -> None:
    with pytest.raises(InputError, match=complaint):
        Deployment(H100, **change)  # type: ignore[arg-type]
