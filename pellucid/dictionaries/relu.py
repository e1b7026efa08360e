"""ReLU with an L1 penalty: the baseline that all others were measured against.

Bricken et al. 2023, Towards Monosemanticity; Cunningham et al. 2023, arXiv 2309.08600. The penalty is on the
sum of the values, which have unit decoder rows, and shrinks them: what an L1 dictionary cannot help.
"""

from __future__ import annotations

from torch import Tensor

from pellucid.dictionaries.architectures import Decoded, Entries, Penalised, Slopes


class ReLU(Penalised):
    """Keeps what is positive and pays for it."""

    def slopes(self, entries: Entries, value_slopes: Tensor, decoded: Decoded) -> Slopes:
        """The penalty pulls every value down alike."""
        pull = self.numbers["penalty"] * decoded.weight
        return super().slopes(entries, value_slopes + pull, decoded)
