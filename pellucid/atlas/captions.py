"""What stands beside a feature wherever it is named: its label, and tokens that it promotes.

Tables are read a group of features at a time, as they lie, and the groups used last are kept: whoever names a
feature on every token reads a table now and then.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass, field

from pellucid.atlas.labels import Label, labels_of
from pellucid.atlas.pages import Atlas
from pellucid.models.model import Model

_GROUP = 256
_KEPT = 64


@dataclass(frozen=True)
class _Group:
    labels: list[Label]
    """None where the atlas has no labels."""
    promoted: list[list[int]] | None
    texts: dict[int, list[str]] = field(default_factory=dict)


class Captions:
    """The captions of an atlas's features. Several threads may ask."""

    def __init__(self, atlas: Atlas, model: Model) -> None:
        """Read nothing yet; `model` turns tokens into text."""
        self.atlas, self.model = atlas, model
        self._groups: OrderedDict[int, _Group] = OrderedDict()
        self._lock = threading.Lock()

    def at_hand(self, feature: int) -> bool:
        """Whether a feature's captions can be told without reading."""
        return feature // _GROUP in self._groups

    def label(self, feature: int) -> Label | None:
        """A feature's label; none where the atlas has no labels.

        Raises:
            InputError: when there is no such feature.
        """
        labels = self._group(feature).labels
        return labels[feature % _GROUP] if labels else None

    def reliable(self, feature: int) -> str | None:
        """What switches a feature on, in words, where the atlas has a reliable label.

        Raises:
            InputError: when there is no such feature.
        """
        label = self.label(feature)
        return label.text if label is not None and label.reliable else None

    def promoted(self, feature: int) -> list[str] | None:
        """Tokens that turning a feature up promotes, as text, each once; none if that was not measured.

        Raises:
            InputError: when there is no such feature.
        """
        group = self._group(feature)
        if group.promoted is None:
            return None
        if feature not in group.texts:
            group.texts[feature] = texts_of(self.model, group.promoted[feature % _GROUP])
        return group.texts[feature]

    def _group(self, feature: int) -> _Group:
        number = self.atlas.check_feature(feature) // _GROUP
        with self._lock:
            if (known := self._groups.get(number)) is not None:
                self._groups.move_to_end(number)
                return known
        features = range(number * _GROUP, min((number + 1) * _GROUP, self.atlas.num_features))
        found = _Group(labels_of(self.atlas, features), self.atlas.promoted(features))
        with self._lock:
            self._groups[number] = found
            while len(self._groups) > _KEPT:
                self._groups.popitem(last=False)
        return found


def texts_of(model: Model, tokens: Iterable[int]) -> list[str]:
    """Tokens as text, each once, without those that are blank."""
    texts = (model.decode([token]).strip() for token in tokens)
    return [text for text in dict.fromkeys(texts) if text]
