from __future__ import annotations

from pellucid.core.progress import Progress, silent


def test_the_silent_listener_takes_whatever_a_job_tells() -> None:
    listener: Progress = silent
    listener("train", 1, 2, fvu=0.5, rate=1e-3)
