from __future__ import annotations

import pytest

from pellucid.core import errors


@pytest.mark.parametrize(
    ("kind", "also"),
    [
        (errors.InputError, ValueError),
        (errors.UnknownNameError, errors.InputError),
        (errors.MissingDependencyError, ImportError),
        (errors.IntegrityError, errors.PellucidError),
        (errors.UpstreamError, errors.PellucidError),
    ],
)
def test_each_error_can_be_caught_as_what_it_is(kind: type[Exception], also: type[Exception]) -> None:
    assert issubclass(kind, also)
    assert issubclass(kind, errors.PellucidError)


def test_an_unknown_name_far_from_all_suggests_nothing_and_lists_what_is_known() -> None:
    error = errors.UnknownNameError("kernel", "zzzz", ["decode", "update"])
    assert error.nearest is None
    assert str(error) == "There is no kernel 'zzzz'. Known: decode, update."


def test_a_long_list_of_names_is_cut_with_its_length() -> None:
    message = str(errors.UnknownNameError("feature", "f99", [f"f{i}" for i in range(40)]))
    assert "f11, … (40 in all)" in message
    assert "f12" not in message


def test_an_unknown_name_among_none_says_so() -> None:
    assert str(errors.UnknownNameError("recipe", "calm", [])) == "There is no recipe 'calm'. Known: none."


def test_a_missing_library_comes_with_the_install_line() -> None:
    error = errors.MissingDependencyError("huggingface-hub", "hub", "An 'hf:' reference")
    assert "pip install 'pellucid[hub]'" in str(error)
