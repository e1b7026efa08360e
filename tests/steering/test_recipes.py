from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pellucid.core import files
from pellucid.core.errors import InputError, IntegrityError, PellucidError, UnknownNameError
from pellucid.dictionaries.base import Dictionary
from pellucid.steering import recipes
from pellucid.steering.edits import FeatureEdit
from pellucid.steering.recipes import Recipe

EDITS = (FeatureEdit("set", 3, 2.0), FeatureEdit("ablate", 5, scope="answer"))


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PELLUCID_HOME", str(tmp_path))
    return tmp_path


def test_a_recipe_is_read_as_it_was_kept(home: Path, dictionary: Dictionary) -> None:
    made = Recipe.of("calm", dictionary, EDITS, "Speak softly.")
    path = recipes.save(made)
    assert path.is_relative_to(home)
    assert recipes.load("calm") == recipes.load(path) == made
    made.check(dictionary)
    assert recipes.names() == ["calm"]
    with pytest.raises(InputError, match="already"):
        recipes.save(made)
    recipes.save(made, replace=True)
    recipes.remove("calm")
    with pytest.raises(UnknownNameError):
        recipes.load("calm")
    with pytest.raises(UnknownNameError):
        recipes.remove("calm")


@pytest.mark.usefixtures("home")
@pytest.mark.parametrize("name", ["", "../keys", "a/b", "A", "x" * 65, ".hidden", "a\n", "c:x"])
def test_a_name_holds_no_path(dictionary: Dictionary, name: str) -> None:
    with pytest.raises(InputError, match="cannot name"):
        Recipe.of(name, dictionary, EDITS)
    with pytest.raises(UnknownNameError):
        recipes.load(name)
    with pytest.raises(UnknownNameError):
        recipes.remove(name)


def test_edits_must_mean_something(dictionary: Dictionary) -> None:
    for edits in (
        (),
        (FeatureEdit("set", 10**6, 1.0),),
        (FeatureEdit("set", 1, float("nan")),),
        EDITS[:1] * 2,
    ):
        with pytest.raises(InputError):
            Recipe.of("name", dictionary, edits)
    other = Recipe("name", "sha256:other", dictionary.model_digest, EDITS)
    with pytest.raises(InputError, match="another dictionary"):
        other.check(dictionary)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


@given(
    value=json_values,
    part=st.sampled_from(["format", "name", "dictionary", "model", "edits", "note", "edit"]),
)
def test_what_a_stranger_wrote_is_refused_or_is_a_recipe(value: Any, part: str) -> None:
    whole: dict[str, Any] = Recipe("name", "sha256:a", "sha256:b", EDITS).as_json()
    whole["edits"] = [dict(e) for e in whole["edits"]]
    if part == "edit":
        whole["edits"][0] = value
    else:
        whole[part] = value
    for crafted in (value, whole):
        try:
            found = recipes.read(crafted)
        except IntegrityError:
            continue
        assert recipes.read(found.as_json()) == found
        assert all(isinstance(e.feature, int) for e in found.edits)


def test_a_file_that_is_no_recipe_is_one_clear_error(home: Path) -> None:
    (home / "recipes").mkdir()
    file = home / "recipes" / "odd.json"
    for text in ("", "{}", "[1]", '{"format": 2}', "\x00"):
        file.write_text(text)
        with pytest.raises(PellucidError):
            recipes.load("odd")
    file.write_bytes(b" " * (2 << 20))
    with pytest.raises(IntegrityError, match="too large"):
        recipes.load("odd")
    files.write_json(
        file,
        {"format": 1, "name": "odd", "dictionary": "", "model": "", "edits": [{"kind": "run", "feature": 1}]},
    )
    with pytest.raises(IntegrityError, match="no recipe"):
        recipes.load("odd")
