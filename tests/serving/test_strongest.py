from __future__ import annotations

import numpy as np
import torch

from pellucid.dictionaries.codes import Codes
from pellucid.serving.strongest import Strongest


def test_each_row_has_its_strongest_by_share_however_often_they_are_asked_for() -> None:
    random = np.random.default_rng(0)
    dense = np.where(random.random((40, 30)) < 0.3, random.integers(1, 5, (40, 30)), 0).astype(np.float32)
    dense[7] = 0
    units = random.integers(1, 4, 30).astype(np.float32)
    strongest = Strongest(units)
    several = [Codes.from_dense(torch.from_numpy(dense[at : at + 4])) for at in range(0, 40, 4)]
    for _ in range(2):
        for number, codes in enumerate(several):
            for top in (0, 1, 5, 64):
                found = strongest.of(codes, top)
                assert len(found) == 4
                for row, mine in enumerate(found):
                    values = dense[4 * number + row]
                    shares = values / units
                    order = sorted(np.flatnonzero(values), key=lambda f: (-shares[f], -values[f], f))
                    assert [f for f, _, _ in mine] == order[:top]
                    assert [a for _, a, _ in mine] == values[order[:top]].tolist()
                    assert [s for _, _, s in mine] == shares[order[:top]].tolist()
