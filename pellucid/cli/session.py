"""What several verbs open: a model, a dictionary that fits it, and its atlas if it has one."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

    from pellucid.activations.tokens import TokenStore
    from pellucid.atlas.captions import Captions
    from pellucid.atlas.labels import Label
    from pellucid.atlas.pages import Atlas
    from pellucid.atlas.promoted import Effects
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
    atlas_address: str | None = None
    """Where its atlas is; by default in the dictionary's folder, if there is one."""

    @classmethod
    def open(cls, dictionary: str, model: str | None = None, *, atlas: str | None = None) -> Session:
        """Open a dictionary by name or folder.

        Args:
            dictionary: its name or folder.
            model: which model; by default the one its card names.
            atlas: the address of its atlas.

        Raises:
            InputError: when model or atlas are not the dictionary's.
        """
        from pellucid.dictionaries import files, shipped
        from pellucid.models.model import load

        folder = shipped.resolve(dictionary)
        loaded, card = files.load(folder)
        network = load(model or card["model_reference"])
        files.check_model(card, network.digest)
        return cls(folder, network, loaded, card, atlas)

    @cached_property
    def atlas(self) -> Atlas | None:
        """The atlas that was asked for, or the one in the dictionary's folder, if there is one."""
        from pellucid.atlas.pages import Atlas

        if self.atlas_address is not None:
            return Atlas.open(self.atlas_address, self.dictionary)
        folder = self.folder / "atlas"
        return Atlas.open(folder, self.dictionary) if (folder / "atlas.json").is_file() else None

    def needed_atlas(self) -> Atlas:
        """The atlas.

        Raises:
            InputError: when there is none.
        """
        from pellucid.core.errors import InputError

        if self.atlas is None:
            raise InputError(
                f"The dictionary {str(self.folder)!r} has no atlas in its folder. Build one with "
                "'pellucid atlas build', and name it with --atlas."
            )
        return self.atlas

    @cached_property
    def store(self) -> TokenStore | None:
        """The text that the atlas points into, if it is at hand: beside the dictionary, or in the cache."""
        return self.atlas.text(self.folder) if self.atlas is not None else None

    @cached_property
    def captions(self) -> Captions | None:
        """What stands beside a feature, where there is an atlas."""
        from pellucid.atlas.captions import Captions

        return Captions(self.atlas, self.model) if self.atlas is not None else None

    @cached_property
    def _promoted(self) -> dict[int, list[str]]:
        return {}

    def promoted(self, feature: int, count: int = 6) -> list[str]:
        """Tokens that turning a feature up promotes, as text, each once: from the atlas, or measured now."""
        known = self.captions.promoted(feature) if self.captions is not None else None
        if known is None:
            if feature not in self._promoted:
                self._promoted[feature] = self.words(self._measured([feature]).promoted[0].tolist())
            known = self._promoted[feature]
        return known[:count]

    def words(self, tokens: Iterable[int], count: int | None = None) -> list[str]:
        """Tokens as text, each once, without those that are blank."""
        from pellucid.atlas.captions import texts_of

        return texts_of(self.model, tokens)[:count]

    def labels(self, features: Iterable[int]) -> dict[int, Label]:
        """The labels of some features; none where the atlas has no labels."""
        if self.captions is None:
            return {}
        found = {feature: self.captions.label(feature) for feature in features}
        return {feature: label for feature, label in found.items() if label is not None}

    def reliable(self, feature: int) -> str | None:
        """What switches a feature on, in words, where the atlas has a reliable label."""
        return self.captions.reliable(feature) if self.captions is not None else None

    @cached_property
    def promotions(self) -> tuple[Tensor, Tensor]:
        """Ids and scores [N, P] of the tokens each feature promotes: from the atlas, or measured now."""
        import torch

        effects = self.atlas.table("effects") if self.atlas is not None else None
        if effects is not None:
            ids, scores = (effects.column(name) for name in ("promoted", "promoted_scores"))
            return torch.from_numpy(ids.copy()), torch.from_numpy(scores.copy()).float()
        measured = self._measured(None)
        return measured.promoted, measured.promoted_scores

    def _measured(self, features: list[int] | None) -> Effects:
        from pellucid.atlas import promoted
        from pellucid.core.errors import InputError

        if self.dictionary.maximum is None:
            raise InputError(
                "The dictionary holds no maxima, the unit of steering. Train it with this version."
            )
        return promoted.measure(self.model, self.dictionary, self.dictionary.maximum, features=features)

    def unit(self, feature: int) -> float:
        """A feature's maximum, the unit of shares; 1 where it is not known."""
        maximum = self.dictionary.maximum
        return float(maximum[feature]) or 1.0 if maximum is not None else 1.0
