from __future__ import annotations

import json
import socket
import threading
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pellucid.atlas import prompts
from pellucid.atlas.endpoint import Endpoint
from pellucid.atlas.explainer_endpoint import EndpointExplainer
from pellucid.atlas.explainers import Marked, Written
from pellucid.atlas.kept_labels import Kept
from pellucid.atlas.scoring import sheet_of
from pellucid.atlas.spending import Budget, Prices
from pellucid.core.errors import BudgetError, InputError, IntegrityError, LabelError, UpstreamError
from tests.atlas.fake_endpoint import Answer, anthropic, openai, sensible, serving
from tests.atlas.label_cases import evidence, window

DOLLAR = Prices(1.0, 1.0)
"""One dollar for a million tokens of either kind: a token costs a thousand billionths."""


@pytest.fixture
def kept(tmp_path: Path) -> Kept:
    return Kept(tmp_path / "kept.sqlite")


def quick(url: str, **options: Any) -> Endpoint:
    return Endpoint(
        url, "some-model", **{"wait_s": 0.001, "timeout_s": 5, "tries": 3, "prices": DOLLAR, **options}
    )


def ask(url: str, kept: Kept, **options: Any) -> str:
    return quick(url, **options).ask("What is it?", max_tokens=7, budget=Budget(kept))


def test_a_prompt_is_sent_and_paid_for_by_what_was_used(kept: Kept, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret")
    with serving(lambda _: (200, openai("An answer", read=30, written=4))) as fake:
        assert ask(fake.url, kept) == "An answer"
    (body,) = fake.requests
    assert body == {
        "model": "some-model",
        "max_tokens": 7,
        "temperature": 0,
        "messages": [{"role": "user", "content": "What is it?"}],
    }
    assert fake.headers[0]["authorization"] == "Bearer sk-secret"
    assert Budget(kept).dollars == pytest.approx(34e-6)


def test_the_other_format(kept: Kept, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-other")
    with serving(lambda _: (200, anthropic("An answer", read=30, written=4)), "/v1/messages") as fake:
        assert ask(fake.url, kept) == "An answer"
    assert fake.headers[0]["x-api-key"] == "sk-other"
    assert "authorization" not in fake.headers[0]
    assert Budget(kept).dollars == pytest.approx(34e-6)


def test_a_key_is_written_nowhere(tmp_path: Path, kept: Kept, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret-of-mine")
    with serving(lambda _: (401, b"bad key")) as fake, pytest.raises(UpstreamError) as error:
        ask(fake.url, kept)
    assert "sk-secret" not in str(error.value)
    kept.close()
    assert all(b"sk-secret" not in path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())


@pytest.mark.parametrize("status", [429, 500, 503, 408])
def test_what_passes_is_tried_again_and_not_paid_for(kept: Kept, status: int) -> None:
    answers: list[Answer] = [(status, b"later"), (status, b"later"), (200, openai("Yes", read=10, written=1))]
    with serving(lambda _: answers.pop(0)) as fake:
        assert ask(fake.url, kept) == "Yes"
    assert len(fake.requests) == 3
    assert Budget(kept).dollars == pytest.approx(11e-6)


@pytest.mark.parametrize("status", [400, 401, 403, 404, 302])
def test_what_would_be_refused_again_ends_the_job_at_once(kept: Kept, status: int) -> None:
    with (
        serving(lambda _: (status, b"no such model")) as fake,
        pytest.raises(UpstreamError, match="no such model"),
    ):
        ask(fake.url, kept)
    assert len(fake.requests) == 1
    assert Budget(kept).dollars == 0


HALF = openai("An answer that is cut")[:40]
NONSENSE = [
    b"",
    b"<html>",
    HALF,
    b"[]",
    b"{}",
    b'{"choices": []}',
    b'{"choices": [{"message": {"content": null}}]}',
]


@pytest.mark.parametrize("body", NONSENSE)
def test_an_answer_that_is_none_is_a_failure_of_the_feature_and_counts_as_spent(
    kept: Kept, body: bytes
) -> None:
    with serving(lambda _: (200, body)) as fake, pytest.raises(LabelError, match="an answer that is none"):
        ask(fake.url, kept)
    assert len(fake.requests) == 3
    # Whoever answers may charge for it: what was set aside stays.
    most = 3 * (len(b"What is it?") + 64 + 7) * 1e-6
    assert Budget(kept).dollars == pytest.approx(most)


def test_a_connection_that_breaks_or_hangs_is_a_failure(kept: Kept) -> None:
    with serving(lambda _: None) as fake, pytest.raises(LabelError, match="no answer"):
        ask(fake.url, kept)
    assert len(fake.requests) == 3
    stop = threading.Event()

    def hang(_: dict[str, Any]) -> Answer:
        stop.wait(10)
        return None

    with serving(hang) as slow:
        with pytest.raises(LabelError, match="no answer"):
            ask(slow.url, kept, timeout_s=0.05, tries=2)
        stop.set()
    assert Budget(kept).dollars == pytest.approx(5 * (11 + 64 + 7) * 1e-6)


def test_an_answer_that_trickles_in_is_given_up_at_its_deadline(kept: Kept) -> None:
    server = socket.create_server(("127.0.0.1", 0))
    done = threading.Event()

    def trickle() -> None:
        connection, _ = server.accept()
        with connection:
            connection.recv(65536)
            connection.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 100000\r\n\r\n")
            while not done.wait(0.02):
                try:
                    connection.sendall(b" ")
                except OSError:
                    return

    thread = threading.Thread(target=trickle, daemon=True)
    thread.start()
    url = f"http://127.0.0.1:{server.getsockname()[1]}/v1/chat/completions"
    with pytest.raises(LabelError, match="timed out"):
        ask(url, kept, timeout_s=0.3, tries=1)
    done.set()
    thread.join()
    server.close()


def test_an_address_that_is_none_is_refused() -> None:
    with pytest.raises(InputError, match="whole address"):
        Endpoint("localhost:8000", "m")
    with pytest.raises(InputError, match="Prices"):
        Prices(-1, 0)


@settings(max_examples=30)
@given(
    limit=st.integers(0, 400),
    requests=st.lists(st.tuples(st.integers(1, 60), st.integers(0, 60), st.sampled_from("akt")), max_size=40),
)
def test_a_budget_is_never_passed(
    tmp_path_factory: pytest.TempPathFactory, limit: int, requests: list[tuple[int, int, str]]
) -> None:
    """Answered, killed or timed out, in any order and over sittings: what was paid stays below the limit."""
    path = tmp_path_factory.mktemp("budget") / "kept.sqlite"
    kept = Kept(path)
    budget = Budget(kept, limit * 1e-9)
    paid = 0
    for most, used, end in requests:
        try:
            request = budget.reserve(most)
        except BudgetError:
            assert round(budget.dollars * 1e9) + most > limit
            continue
        paid += min(used, most)
        if end == "a":
            budget.settle(request, min(used, most))
        if end == "k":
            kept.close()
            kept = Kept(path)
            budget = Budget(kept, limit * 1e-9)
        assert paid <= round(budget.dollars * 1e9) <= limit
    kept.close()


def test_many_threads_cannot_pass_a_budget_together(tmp_path: Path) -> None:
    kept = Kept(tmp_path / "kept.sqlite")
    with serving(lambda _: None) as fake:
        fake.answer = sensible(fake)
        budget = Budget(kept, 0.001)
        endpoint = quick(fake.url)
        refused = []

        def work(number: int) -> None:
            for turn in range(6):
                try:
                    endpoint.ask(f"Which fit? {number} {turn} {'x' * 90}", max_tokens=100, budget=budget)
                except BudgetError as error:
                    refused.append(error)

        threads = [threading.Thread(target=work, args=(n,)) for n in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert fake.cost_tokens * 1e-6 <= budget.dollars <= 0.001
    assert refused
    assert len(fake.requests) + len(refused) == 48


def one_feature() -> Any:
    active = [window(f"they sang a song {i}", {3: 1.0 + i}, token=64 * i) for i in range(30)]
    silent = [window(f"they ate the bread {i}", token=64 * i) for i in range(30)]
    return evidence(active[:20], silent[:20], active[20:], silent[20:])


def test_labels_and_judgements_come_from_prompts(kept: Kept) -> None:
    with serving(lambda _: None) as fake:
        fake.answer = sensible(fake)
        explainer = EndpointExplainer(quick(fake.url), kept, Budget(kept))
        one = one_feature()
        label = explainer.write(one)
        assert label == Written("rainy words")
        judged = explainer.judge(label, sheet_of(one))
    said = [*judged.active, *judged.silent]
    assert (len(judged.active), len(judged.silent), len(judged.marked), len(judged.moved)) == (10, 10, 10, 10)
    assert sum(said) == 2, "one of each ten"
    written, *others = (r["messages"][0]["content"] for r in fake.requests)
    assert "they sang a «song»(10) 19" in written
    assert len(others) == 4
    assert all("rainy words" in prompt for prompt in others)
    # Texts come in mixed order: else a model might learn that the first ones fit.
    assert all("sang" in prompt for prompt in others)
    assert "ate" in others[0]
    assert "ate" in others[1]


def test_what_was_answered_is_not_asked_or_paid_again(kept: Kept) -> None:
    with serving(lambda _: None) as fake:
        fake.answer = sensible(fake)
        one = one_feature()
        first = EndpointExplainer(quick(fake.url), kept, Budget(kept))
        label = first.write(one)
        judged = first.judge(label, sheet_of(one))
        count, spent = len(fake.requests), Budget(kept).dollars
        second = EndpointExplainer(quick(fake.url), kept, Budget(kept))
        assert (second.write(one), second.judge(label, sheet_of(one))) == (label, judged)
        assert (len(fake.requests), Budget(kept).dollars) == (count, spent)
        again = EndpointExplainer(quick(fake.url), kept, Budget(kept), again=True)
        again.write(one)
    assert len(fake.requests) == count + 1


def test_nonsense_is_not_kept(kept: Kept) -> None:
    answers = ["I cannot say.", "Label: a song"]
    with serving(lambda _: (200, openai(answers.pop(0)))) as fake:
        explainer = EndpointExplainer(quick(fake.url), kept, Budget(kept))
        with pytest.raises(LabelError, match="expected a line"):
            explainer.write(one_feature())
        assert explainer.write(one_feature()).text == "a song"


READ = [
    ("[1, 3]", [True, False, True]),
    ("They are [2].", [False, True, False]),
    ("[]", [False, False, False]),
    ("First I thought [1], but: [2, 3]", [False, True, True]),
]


@pytest.mark.parametrize(("answer", "expected"), READ)
def test_lists_are_read(answer: str, expected: list[bool]) -> None:
    assert prompts.numbers_in(answer, 3) == expected


@pytest.mark.parametrize("answer", ["", "none", "[4]", "[0]", "1, 2", "[1, 2", "[,]", "[1 2]"])
def test_lists_that_are_none_are_failures(answer: str) -> None:
    with pytest.raises(LabelError):
        prompts.numbers_in(answer, 3)


def test_labels_are_read() -> None:
    assert prompts.label_in("Hm.\n**Label:** “words of  song”.") == "words of song"
    for answer in ("", "Label:", "words of song", "Label: " + "long " * 100):
        with pytest.raises(LabelError):
            prompts.label_in(answer)


def test_marks_enclose_runs_of_tokens() -> None:
    one = window("they sang a song to +gether .", {3: 1.0, 4: 1.0, 5: 1.0})
    assert prompts.marks(Marked(one, (3, 4, 5))) == "they sang a «song together» ."
    assert prompts.marks(Marked(one, (0, 6))) == "«they» sang a song together «.»"


def test_a_damaged_file_of_answers_is_said(tmp_path: Path) -> None:
    (tmp_path / "kept.sqlite").write_bytes(b"this is no database" * 100)
    with pytest.raises(IntegrityError, match="remove it"):
        Kept(tmp_path / "kept.sqlite")


def test_values_are_kept_by_name(kept: Kept) -> None:
    kept.put("a", {"b": [1, None, "ü"]})
    kept.put("a", {"b": [2]})
    assert kept.get("a") == {"b": [2]}
    assert kept.get("c") is None
    assert kept.names() == {"a"}
    assert json.dumps(kept.get("a"))
