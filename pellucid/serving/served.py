"""What a server serves: one model, the dictionaries that fit it, and what is known of their features."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path

import numpy as np

from pellucid.activations.tokens import TokenStore
from pellucid.atlas.build import decoder_digest
from pellucid.atlas.captions import Captions
from pellucid.atlas.pages import Atlas
from pellucid.core.errors import InputError, UnknownNameError
from pellucid.dictionaries import files, shipped
from pellucid.dictionaries.base import Dictionary
from pellucid.models import model as models
from pellucid.models.model import Model
from pellucid.serving.strongest import Strongest
from pellucid.steering.recipes import Recipe

_DESCRIBED = 4096  # features of which the words are kept


@dataclass(frozen=True)
class ServedDictionary:
    """A dictionary with the name it is asked for by, and its atlas if it has one."""

    name: str
    folder: Path
    dictionary: Dictionary
    model: Model
    atlas_address: str | None = None
    """Where its atlas is; by default in its folder, if there is one."""

    @cached_property
    def digest(self) -> str:
        """Of its decoder directions, by which recipes and atlases name it."""
        return decoder_digest(self.dictionary)

    @cached_property
    def atlas(self) -> Atlas | None:
        """The atlas that was named for it, or the one in its folder."""
        if self.atlas_address is not None:
            return Atlas.open(self.atlas_address, self.dictionary)
        folder = self.folder / "atlas"
        return Atlas.open(folder, self.dictionary) if (folder / "atlas.json").is_file() else None

    @property
    def needed_atlas(self) -> Atlas:
        """Its atlas.

        Raises:
            InputError: when it is served without one.
        """
        if self.atlas is None:
            raise InputError(f"The dictionary {self.name!r} is served without an atlas.")
        return self.atlas

    @cached_property
    def text(self) -> TokenStore | None:
        """The text that the atlas points into, if it is at hand."""
        return self.atlas.text(self.folder) if self.atlas is not None else None

    @cached_property
    def units(self) -> np.ndarray:
        """[N] each feature's maximum, the unit of shares; 1 where it is not known."""
        maximum = self.dictionary.maximum
        if maximum is None:
            return np.ones(self.dictionary.num_features, np.float32)
        found = maximum.cpu().numpy()
        return np.where(found == 0, np.float32(1), found)

    @cached_property
    def strongest(self) -> Strongest:
        """The strongest features of what is watched."""
        return Strongest(self.units)

    @cached_property
    def captions(self) -> Captions | None:
        """What stands beside its features, where there is an atlas."""
        return Captions(self.atlas, self.model) if self.atlas is not None else None

    def at_hand(self, feature: int) -> bool:
        """Whether its label and the tokens it promotes can be told without reading."""
        return self.captions is None or self.captions.at_hand(feature)

    @cached_property
    def described(self) -> Callable[[int], tuple[str | None, list[str]]]:
        """A feature's label and the tokens it promotes, kept: common features are told again and again."""
        return lru_cache(_DESCRIBED)(lambda feature: (self.label(feature), self.promoted(feature)))

    def promoted(self, feature: int, count: int = 6) -> list[str]:
        """Tokens that turning the feature up promotes, as text, each once; none where no atlas says."""
        known = self.captions.promoted(feature) if self.captions is not None else None
        return (known or [])[:count]

    def label(self, feature: int) -> str | None:
        """What switches the feature on, in words, where the atlas has a reliable label."""
        return self.captions.reliable(feature) if self.captions is not None else None


@dataclass(frozen=True)
class Served:
    """The model and its dictionaries."""

    model: Model
    dictionaries: dict[str, ServedDictionary]

    @classmethod
    def open(cls, model: str, dictionaries: Sequence[str], atlases: Sequence[str] = ()) -> Served:
        """Load a model and the dictionaries that are to be watched and edited by.

        Args:
            model: a model reference.
            dictionaries: names of shipped ones, or folders.
            atlases: folders or URLs, each of the atlas of one of the dictionaries; a dictionary without one
                has the atlas in its folder, if there is one.

        Raises:
            InputError: when two dictionaries have one name, an atlas belongs to none of them or a second to
                one, or a dictionary belongs to another model.
        """
        with ThreadPoolExecutor(1, "load") as pool:  # each takes a second or two of a start
            loading = pool.submit(models.load, model)
            folders = [shipped.resolve(reference) for reference in dictionaries]
            loaded = [files.load(folder) for folder in folders]
            network = loading.result()
        places = {address: str(Atlas.open(address).record["dictionary"]) for address in atlases}
        found: dict[str, ServedDictionary] = {}
        for folder, (dictionary, card) in zip(folders, loaded, strict=True):
            files.check_model(card, network.digest)
            name = folder.parent.name if folder.name == "result" else folder.name
            if name in found:
                raise InputError(f"Two dictionaries are named {name!r}. Rename one of the folders.")
            digest = decoder_digest(dictionary)
            mine = [address for address, of in places.items() if of == digest]
            if len(mine) > 1:
                raise InputError(f"Two atlases are of the dictionary {name!r}: {', '.join(mine)}. Name one.")
            found[name] = ServedDictionary(name, folder, dictionary, network, *mine)
            _ = found[name].atlas  # what is wrong with it is said before anybody asks
        for address, of in places.items():
            if all(d.digest != of for d in found.values()):
                raise InputError(f"The atlas {address!r} is of none of the dictionaries that are served.")
        return cls(network, found)

    def by_digest(self, recipe: Recipe) -> ServedDictionary:
        """The dictionary that a recipe was made for.

        Raises:
            InputError: when it is not served.
        """
        for found in self.dictionaries.values():
            if found.digest == recipe.dictionary:
                return found
        raise InputError(f"The recipe {recipe.name!r} belongs to a dictionary that is not served here.")

    def dictionary(self, name: str | None) -> ServedDictionary:
        """A dictionary by its name, or the only one there is.

        Raises:
            UnknownNameError: when there is none of that name.
            InputError: when no name is given and there is not exactly one.
        """
        if name is None:
            if len(self.dictionaries) != 1:
                raise InputError(
                    f"Say which dictionary is meant: {', '.join(self.dictionaries) or 'none is served'}."
                )
            return next(iter(self.dictionaries.values()))
        if name not in self.dictionaries:
            raise UnknownNameError("dictionary", name, self.dictionaries)
        return self.dictionaries[name]
