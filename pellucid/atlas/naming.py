"""Names of clusters of features: the words that are said of many in the cluster and of few elsewhere.

What is said of a feature are the words of its label, where it has a reliable one that a model wrote; or,
where an atlas has no such labels, the tokens it promotes most and those it is most often active on: labels
from words alone speak of "words" and "beginnings" as much as of things. A word's score in a cluster is n ·
log(n / e): n features of the cluster of which it is said, e what their number would give. A name is the
three words with the highest scores that reach a floor: the score that 19 of 20 clusters of the same sizes
do not reach when features are dealt out by chance. A cluster without such a word has an empty name.

The columns `share` and `background` are for the first word of a name: of how much of the cluster it is said,
and of how much of all features.
"""

from __future__ import annotations

import re
from collections.abc import Callable

import numpy as np

from pellucid.atlas.explainer_words import WordsExplainer
from pellucid.atlas.pages import Atlas
from pellucid.atlas.tables import Columns, Table

_WORDS = 3
_PROMOTED, _OWN = 5, 3
_LEAST = 3
"""Features of a cluster of which a word must be said."""
_WORD = re.compile(r"[^\W_]{2,}")


def labelled(atlas: Atlas, living: np.ndarray) -> np.ndarray:
    """[n] which of some features have a reliable label; none where the atlas has no labels."""
    table = atlas.table("labels")
    if table is None:
        return np.zeros(len(living), bool)
    reliable: np.ndarray = table.column("reliable")[living].astype(bool)
    return reliable


def by_model(atlas: Atlas) -> Table | None:
    """The labels that name clusters: those that a model wrote; none where the atlas has no such labels."""
    labels = atlas.table("labels")
    by_words = labels is not None and labels.record["facts"].get("explainer") == WordsExplainer.name
    return None if by_words else labels


def names(
    atlas: Atlas,
    cluster: np.ndarray,
    living: np.ndarray,
    count: int,
    piece: Callable[[int], str],
    *,
    seed: int = 0,
) -> Columns:
    """The columns `name`, `share` and `background` of clusters.

    Args:
        atlas: of the features.
        cluster: [n] the cluster of each.
        living: [n] their numbers.
        count: how many clusters there are.
        piece: the text of a token.
        seed: of the clusters by chance.
    """
    who, said, words = _said(atlas, living, piece)
    number, shares, background = _scored(cluster, who, said, count, len(words))
    dealt = np.random.default_rng(seed).permutation(cluster)
    by_chance = [found[0][0] for found in _scored(dealt, who, said, count, len(words))[0] if found]
    floor = float(np.quantile(by_chance, 0.95)) if by_chance else 0.0
    columns: Columns = {
        "name": np.array([""] * count, dtype=object),
        "share": np.zeros(count, np.float32),
        "background": np.zeros(count, np.float32),
    }
    for c, found in enumerate(number):
        best = [word for score, word in found[:_WORDS] if score > floor]
        if best:
            columns["name"][c] = " · ".join(words[w] for w in best)
            columns["share"][c], columns["background"][c] = shares(c, best[0]), background[best[0]]
    return columns


def _said(
    atlas: Atlas, living: np.ndarray, piece: Callable[[int], str]
) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Pairs of a feature's place and a word, each once; and the words."""
    labels = by_model(atlas)
    if labels is not None:
        reliable, texts = labelled(atlas, living), labels.column("text")[living]
        pairs = [
            (place, word)
            for place in np.flatnonzero(reliable).tolist()
            for word in sorted(set(_WORD.findall(texts[place].lower())))
        ]
        words, said = np.unique(np.array([w for _, w in pairs], dtype=str), return_inverse=True)
        return np.array([p for p, _ in pairs], np.int64), said, words.tolist()
    ids = [atlas.features.column("token_ids")[:, :_OWN]]
    held = [atlas.features.column("token_counts")[:, :_OWN] > 0]
    effects = atlas.table("effects")
    if effects is not None:
        ids.append(effects.column("promoted")[:, :_PROMOTED])
        held.append(effects.column("promoted_scores")[:, :_PROMOTED] > 0)
    all_ids, all_held = np.concatenate(ids, axis=1)[living], np.concatenate(held, axis=1)[living]
    used, back = np.unique(all_ids[all_held], return_inverse=True)
    texts = [(_WORD.findall(piece(int(i)).lower()) or [""])[0] for i in used]
    words, of_token = np.unique(np.array(texts, dtype=str), return_inverse=True)
    who, said = np.nonzero(all_held)[0], of_token[back]
    worded = words[said] != ""
    who, said = np.divmod(np.unique(who[worded] * len(words) + said[worded]), max(1, len(words)))
    return who, said, words.tolist()


def _scored(
    cluster: np.ndarray, who: np.ndarray, said: np.ndarray, count: int, words: int
) -> tuple[list[list[tuple[float, int]]], Callable[[int, int], float], np.ndarray]:
    """For each cluster its scores and words, the highest first; the share of a word in it; and in all."""
    sizes = np.bincount(cluster, minlength=count)
    overall = np.bincount(said, minlength=words) / max(1, len(cluster))
    pair, many = np.unique(cluster[who].astype(np.int64) * max(1, words) + said, return_counts=True)
    where, word = np.divmod(pair, max(1, words))
    expected = overall[word] * sizes[where]
    score = many * np.log(many / expected)
    keep = (many >= _LEAST) & (many > expected)
    order = np.lexsort((word[keep], -score[keep], where[keep]))
    found: list[list[tuple[float, int]]] = [[] for _ in range(count)]
    for at in np.flatnonzero(keep)[order]:
        if len(found[where[at]]) < _WORDS:
            found[where[at]].append((float(score[at]), int(word[at])))
    held = dict(zip(pair.tolist(), many.tolist(), strict=True))
    return found, lambda c, w: held[c * words + w] / sizes[c], overall
