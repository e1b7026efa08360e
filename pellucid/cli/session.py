"""What several verbs open: a model, a dictionary that fits it, and its atlas if it has one."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

    from pellucid.activations.tokens import TokenStore
    from pellucid.atlas.pages import Atlas
    from pellucid.dictionaries.base import Dictionary
    from pellucid.dictionaries.files import Card
    from pellucid.models.model import Model


@dataclass(frozen=True)
class Session:
    """An open dictionary with its model."""

    folder: Path
    model: Model
    dictionary: Dictionary
    card: Card

    @classmethod
    def open(cls, dictionary: str, model: str | None = None) -> Session:
        """Open a dictionary by name or folder, with the model its card names unless another is given."""
        from pellucid.dictionaries import files, shipped
        from pellucid.models.model import load

        folder = shipped.resolve(dictionary)
        loaded, card = files.load(folder)
        network = load(model or card["model_reference"])
        files.check_model(card, network.digest)
        return cls(folder, network, loaded, card)

    @cached_property
    def atlas(self) -> Atlas | None:
        """The atlas in the dictionary's folder, if there is one."""
        from pellucid.atlas.pages import Atlas

        folder = self.folder / "atlas"
        return Atlas.open(folder, dictionary=self.dictionary) if folder.is_dir() else None

    @cached_property
    def store(self) -> TokenStore | None:
        """The text that the atlas points into, if it is at hand: beside the dictionary, or in the cache."""
        from pellucid.activations.tokens import TokenStore
        from pellucid.core import files, paths

        if self.atlas is None:
            return None
        wanted = self.atlas.record["store"]
        for record in (self.folder / "text" / "store.json", *(paths.home() / "tokens").glob("*/store.json")):
            if record.is_file() and files.read_json(record)["digest"] == wanted:
                return TokenStore.open(record.parent)
        return None

    @cached_property
    def _promoted(self) -> dict[int, list[int]]:
        return {}

    def promoted(self, feature: int, count: int = 6) -> list[str]:
        """Tokens that turning a feature up promotes, as text, each once."""
        if feature not in self._promoted:
            if self.atlas is not None:
                self._promoted[feature] = self.atlas.page(feature).promoted
            else:
                self._promoted[feature] = self._measure_promotions([feature])[0][0].tolist()
        texts = (self.model.decode([i]).strip() for i in self._promoted[feature])
        return [t for t in dict.fromkeys(texts) if t][:count]

    @cached_property
    def promotions(self) -> tuple[Tensor, Tensor]:
        """Ids and scores [N, P] of the tokens each feature promotes: from the atlas, or measured now."""
        import torch

        if self.atlas is not None:
            ids, scores = (self.atlas.column(name) for name in ("promoted", "promoted_scores"))
            return torch.from_numpy(ids), torch.from_numpy(scores).float()
        return self._measure_promotions(None)

    def _measure_promotions(self, features: list[int] | None) -> tuple[Tensor, Tensor]:
        from pellucid.atlas.promoted import promoted_tokens
        from pellucid.core.errors import InputError

        if self.dictionary.maximum is None:
            raise InputError(
                "The dictionary holds no maxima, the unit of steering. Train it with this version."
            )
        return promoted_tokens(self.model, self.dictionary, self.dictionary.maximum, features=features)

    def unit(self, feature: int) -> float:
        """A feature's maximum, the unit of shares; 1 where it is not known."""
        maximum = self.dictionary.maximum
        return float(maximum[feature]) or 1.0 if maximum is not None else 1.0
