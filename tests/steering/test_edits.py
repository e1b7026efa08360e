from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from pellucid.core.errors import InputError
from pellucid.core.sites import Site
from pellucid.dictionaries.base import Dictionary
from pellucid.dictionaries.ports import Ports
from pellucid.models import hooks
from pellucid.models.generation import Editor, Pass, Phase
from pellucid.models.model import Model
from pellucid.steering import receipts
from pellucid.steering.edits import Edit, EditPlan, FeatureEdit, InPlace, VectorEdit, parse_assignment

ROWS, POSITIONS = 3, 5


def activations(model: Model) -> torch.Tensor:
    return torch.randn(ROWS, POSITIONS, model.width, generator=torch.Generator().manual_seed(1)) * 2


def everywhere(phase: str = "answer") -> Pass:
    return Pass(phase, torch.ones(ROWS, POSITIONS, dtype=torch.bool))  # type: ignore[arg-type]


def run(dictionary: Dictionary, x: torch.Tensor, *edits: Edit) -> torch.Tensor:
    return EditPlan.same(dictionary, edits, ROWS).edit(x, x, everywhere())


@pytest.mark.parametrize(
    ("edit", "wanted"),
    [
        (FeatureEdit("set", 7, 5.0), lambda a, m: torch.full_like(a, 5 * m)),
        (FeatureEdit("scale", 7, 3.0), lambda a, m: 3 * a),
        (FeatureEdit("ablate", 7), lambda a, m: 0 * a),
        (FeatureEdit("cap", 7, 0.2), lambda a, m: a.clamp(max=0.2 * m)),
        (FeatureEdit("add", 7, 2.0), lambda a, m: a + 2 * m),
    ],
)
def test_an_edit_moves_along_its_direction_by_what_was_asked_and_no_other_way(
    tiny: Model, dictionary: Dictionary, edit: FeatureEdit, wanted: object
) -> None:
    x = activations(tiny)
    score = x @ dictionary.encoder[7]
    a = torch.where(score > 0.2, score, 0.0)
    assert dictionary.maximum is not None
    expected = x + (wanted(a, dictionary.maximum[7]) - a)[..., None] * dictionary.decoder[7]  # type: ignore[operator]
    torch.testing.assert_close(run(dictionary, x, edit), expected)


def test_setting_a_feature_to_what_it_is_changes_nothing(tiny: Model, dictionary: Dictionary) -> None:
    x = activations(tiny)
    torch.testing.assert_close(run(dictionary, x, FeatureEdit("scale", 3, 1.0)), x)


def test_edits_are_per_row_and_rows_without_edits_keep_every_bit(tiny: Model, dictionary: Dictionary) -> None:
    x = activations(tiny)
    plan = EditPlan(dictionary, ((FeatureEdit("set", 1, 2.0),), (), (FeatureEdit("set", 2, 2.0),)))
    y = plan.edit(x, x, everywhere())
    assert torch.equal(y[1], x[1])
    for row, feature in ((0, 1), (2, 2)):
        alone = run(dictionary, x, FeatureEdit("set", feature, 2.0))
        torch.testing.assert_close(y[row], alone[row])


def test_scopes_choose_the_phase_and_padding_is_left_alone(tiny: Model, dictionary: Dictionary) -> None:
    x = activations(tiny)
    plan = EditPlan.same(dictionary, [FeatureEdit("set", 1, 2.0, "answer")], ROWS)
    assert torch.equal(plan.edit(x, x, everywhere("prompt")), x)
    assert not torch.equal(plan.edit(x, x, everywhere("answer")), x)
    real = torch.ones(ROWS, POSITIONS, dtype=torch.bool)
    real[:, :2] = False
    y = plan.edit(x, x, Pass("answer", real))
    assert torch.equal(y[:, :2], x[:, :2])
    assert not torch.equal(y[:, 2:], x[:, 2:])


def test_a_raw_vector_is_added(tiny: Model, dictionary: Dictionary) -> None:
    x, v = activations(tiny), torch.randn(tiny.width)
    torch.testing.assert_close(run(dictionary, x, VectorEdit(v, 1.5)), x + 1.5 * v)


@pytest.mark.parametrize("activation", ["jumprelu", "relu"])
def test_edits_of_several_texts_made_together_are_those_made_alone(
    tiny: Model, dictionary: Dictionary, activation: str
) -> None:
    if activation == "relu":
        dictionary = replace(dictionary, activation="relu", threshold=None)
    texts = (
        [FeatureEdit("set", 1, 2.0), FeatureEdit("scale", 9, 3.0)],
        [FeatureEdit("ablate", 4), FeatureEdit("cap", 7, 0.1), FeatureEdit("add", 4 + 1, -1.5)],
        [FeatureEdit("set", 2, 1.0, "prompt"), FeatureEdit("set", 2, 3.0, "answer")],
        [FeatureEdit("scale", 3, 0.5, "prompt")],
    )
    x = torch.randn(12, tiny.width, generator=torch.Generator().manual_seed(2)) * 2
    spans = (slice(0, 3), slice(4, 9), slice(9, 10), slice(10, 12))
    phases: list[Phase] = ["prompt", "answer", "answer", "answer"]
    editors = [EditPlan.same(dictionary, edits, 1).editors[0][1] for edits in texts]
    assert all(isinstance(e, InPlace) and e.kin is dictionary for e in editors)
    together, alone = x.clone(), x.clone()
    InPlace.together(together, list(zip(editors, spans, phases, strict=True)))  # type: ignore[arg-type]
    for editor, rows, phase in zip(editors, spans, phases, strict=True):
        real = torch.ones(1, rows.stop - rows.start, dtype=torch.bool)
        alone[rows] = editor(x[rows][None], Pass(phase, real))[0]
        one = x.clone()
        InPlace.together(one, [(editor, rows, phase)])  # type: ignore[list-item]
        assert torch.equal(one[rows], together[rows])
    torch.testing.assert_close(together, alone)
    assert torch.equal(together[3], x[3])
    assert torch.equal(together[10:], x[10:])  # its edit holds on the prompt alone


def test_what_cannot_be_edited_together_says_so(tiny: Model, dictionary: Dictionary) -> None:
    edits = [FeatureEdit("set", 1, 2.0)]
    topk = replace(dictionary, activation="topk", k=4, threshold=None)
    for plan in (
        EditPlan.same(topk, edits, 1),
        EditPlan.same(dictionary, edits, 2),
        EditPlan.same(dictionary, [VectorEdit(torch.randn(tiny.width))], 1),
    ):
        ((_, editor),) = plan.editors
        assert isinstance(editor, InPlace)
        assert editor.kin is None


def test_what_means_nothing_is_refused(dictionary: Dictionary) -> None:
    last = dictionary.num_features - 1
    for edit, message in (
        (FeatureEdit("set", last + 1, 1.0), "does not exist"),
        (FeatureEdit("set", -1, 1.0), "does not exist"),
        (FeatureEdit("set", last, 1.0), "never active"),
        (FeatureEdit("set", 0, float("nan")), "must be a number"),
    ):
        with pytest.raises(InputError, match=message):
            EditPlan.same(dictionary, [edit], 1)


def test_assignments_are_read() -> None:
    assert parse_assignment("512=5", "set") == FeatureEdit("set", 512, 5.0)
    assert parse_assignment("3=-2.5", "add", "prompt") == FeatureEdit("add", 3, -2.5, "prompt")
    assert parse_assignment("9", "ablate") == FeatureEdit("ablate", 9)
    for wrong in ("512", "a=1", "5=", "=5", "5=x"):
        with pytest.raises(InputError, match="is written"):
            parse_assignment(wrong, "set")


def test_two_edits_of_one_feature_on_the_same_tokens_are_refused(dictionary: Dictionary) -> None:
    first, second = FeatureEdit("set", 3, 2.0), FeatureEdit("ablate", 3, scope="answer")
    with pytest.raises(InputError, match="Feature 3 is edited twice"):
        EditPlan(dictionary, ((), (first, second)))
    apart = FeatureEdit("set", 3, 2.0, scope="prompt")
    assert len(EditPlan(dictionary, ((apart, second),)).rows) == 1


def test_a_feature_of_a_transcoder_is_read_at_one_site_and_turned_up_at_the_other(
    tiny: Model, dictionary: Dictionary
) -> None:
    site, target = Site("mlp_in", 1), Site("mlp_out", 1)
    transcoder = replace(dictionary, ports=Ports((site,), (target,)))
    plan = EditPlan.same(transcoder, [FeatureEdit("set", 5, 2.0)], 1)
    tokens = [tiny.encode_text("the rain came in the morning")]
    read, written = (tiny.capture(torch.tensor(tokens), [s])[s][0] for s in (site, target))
    before = transcoder.activations_of(read, torch.tensor([5]))
    expected = written + (2.0 * float(transcoder.maximum[5]) - before) * transcoder.decoder[5]  # type: ignore[index]
    found = {}
    with (
        hooks.edited(tiny.network, [(s, _bound(e, read.shape[0])) for s, e in plan.editors]),
        hooks.watched(tiny.network, [(target, lambda x: found.setdefault("x", x))]),
        torch.inference_mode(),
    ):
        tiny.network(input_ids=torch.tensor(tokens))
    torch.testing.assert_close(found["x"][0], expected)
    (receipt,) = receipts.prove(tiny, plan, tokens, [tokens[0][:3]])[0]
    assert receipt.asked == pytest.approx(2.0 * float(transcoder.maximum[5]))  # type: ignore[index]
    assert receipt.reached == pytest.approx(receipt.asked, rel=1e-4)
    assert receipt.kl > 0


def _bound(editor: Editor, positions: int) -> hooks.Editor:
    return lambda x: editor(x, Pass("prompt", torch.ones(1, positions, dtype=torch.bool)))


def test_a_dictionary_that_writes_several_sites_is_not_turned_up(dictionary: Dictionary) -> None:
    wide = replace(dictionary, ports=Ports.of(Site("resid_post", 0), Site("resid_post", 1)))
    with pytest.raises(InputError, match="needs a dictionary that reads one site"):
        EditPlan.same(wide, [FeatureEdit("set", 5, 2.0)], 1).editors  # noqa: B018
