"""Which turn is said: a pure function of the script and the conversation."""

from __future__ import annotations

from typing import Any

import pytest

from claude_bottle.scripted.parse import parse_script
from claude_bottle.scripted.script import Expect, Reply, advance, is_main, tool_id, turns_said

from .conftest import assistant, request, result, text, user

SCRIPT = parse_script(
    {
        "name": "s",
        "turns": [
            {
                "say": "Look.",
                "prompt": {"contains": "go"},
                "tools": [{"name": "Bash", "input": {"command": "a"}}, {"name": "Read", "input": {}}],
            },
            {"say": "One done.", "expect": [{"contains": "good", "is_error": False}, {"is_error": True}]},
            {
                "say": "Two done.",
                "prompt": {"contains": "again", "lacks": "go"},
                "system": {"contains": "Be"},
            },
        ],
    }
)
RESULTS = (result("toolu_s_0_0", "good"), result("toolu_s_0_1", [text("bad")], is_error=True))


def said(reply: Reply) -> dict[str, Any]:
    return dict(reply.blocks[0])


def first() -> list[dict[str, Any]]:
    reply = advance(SCRIPT, request(user("go")), {})
    return [user("go"), assistant(*reply.blocks)]


def test_the_first_turn() -> None:
    reply = advance(SCRIPT, request(user("go")), {})
    assert (reply.turn, reply.stop_reason, reply.failures) == (0, "tool_use", ())
    assert said(reply) == text("Look.")
    assert [block["id"] for block in reply.blocks[1:]] == ["toolu_s_0_0", "toolu_s_0_1"]
    assert reply.blocks[1]["input"] == {"command": "a"}


def test_a_retried_request_gets_the_same_turn_again() -> None:
    same = request(*first(), *RESULTS)
    assert advance(SCRIPT, same, {}) == advance(SCRIPT, same, {})
    assert advance(SCRIPT, same, {}).turn == 1


def test_a_turn_without_tools_ends_and_a_new_prompt_goes_on() -> None:
    done = (*first(), *RESULTS, assistant(text(" One done.\n")))
    assert advance(SCRIPT, request(*first(), *RESULTS), {}).stop_reason == "end_turn"
    reply = advance(SCRIPT, request(*done, user("again"), system=[text("Be short.")]), {})
    assert (reply.turn, reply.failures, said(reply)) == (2, (), text("Two done."))


def test_messages_that_are_no_turn_are_passed_over() -> None:
    """Claude Code writes assistant messages of its own, for example after an error."""
    own = assistant(text("API Error: 529"))
    conversation = request(user("go"), own, *first(), own, *RESULTS)
    assert turns_said(SCRIPT, conversation) == 1
    assert advance(SCRIPT, conversation, {}).turn == 1


def test_a_turn_is_not_known_by_its_words_when_it_has_tools() -> None:
    assert turns_said(SCRIPT, request(user("go"), assistant(text("Look.")))) == 0
    foreign = {"type": "tool_use", "id": "toolu_t_0_0", "name": "Bash", "input": {}}
    assert turns_said(SCRIPT, request(user("go"), assistant(text("Look."), foreign))) == 0


@pytest.mark.parametrize(
    ("results", "failure"),
    [
        (
            (result("toolu_s_0_0", "evil"), RESULTS[1]),
            "turns[1] result 0 (Bash) does not contain 'good': 'evil'",
        ),
        ((RESULTS[0], result("toolu_s_0_1", "fine")), "turns[1] result 1 (Read) is not an error: 'fine'"),
        ((result("toolu_s_0_0", "good", True), RESULTS[1]), "turns[1] result 0 (Bash) is an error: 'good'"),
        (RESULTS[:1], "turns[1] result 1 (Read) did not come back"),
    ],
)
def test_an_unmet_expectation_ends_the_conversation(results: tuple[Any, ...], failure: str) -> None:
    reply = advance(SCRIPT, request(*first(), *results), {})
    assert (reply.turn, reply.stop_reason, reply.failures) == (None, "end_turn", (failure,))
    assert failure in str(said(reply)["text"])


def test_it_stays_ended_when_the_user_goes_on() -> None:
    bad = (result("toolu_s_0_0", "evil"), RESULTS[1])
    ended = advance(SCRIPT, request(*first(), *bad), {})
    again = advance(SCRIPT, request(*first(), *bad, assistant(*ended.blocks), user("please")), {})
    assert (again.turn, again.failures) == (None, ended.failures)


def test_prompt_and_system_prompt() -> None:
    done = (*first(), *RESULTS, assistant(text("One done.")))
    reply = advance(SCRIPT, request(*done, user("let us go"), system="You are."), {})
    assert reply.failures == (
        "turns[2] prompt does not contain 'again': 'let us go'",
        "turns[2] prompt contains 'go': 'let us go'",
        "turns[2] system prompt does not contain 'Be': 'You are.'",
    )


def test_the_system_prompt_may_also_be_a_message() -> None:
    done = (*first(), *RESULTS, assistant(text("One done.")))
    system = {"role": "system", "content": "Be short."}
    assert advance(SCRIPT, request(*done, user("again"), system), {}).turn == 2


def test_after_the_last_turn() -> None:
    done = (*first(), *RESULTS, assistant(text("One done.")), user("again"), assistant(text("Two done.")))
    reply = advance(SCRIPT, request(*done, user("more")), {})
    assert (reply.turn, reply.failures) == (None, ("script 's' has no turn 3: it has ended",))


@pytest.mark.parametrize("tools", [(), ("Read",)])
def test_a_side_request_says_no_turn(tools: tuple[str, ...]) -> None:
    side = request(user("Write a title"), tools=tools)
    assert not is_main(SCRIPT, side)
    assert advance(SCRIPT, side, {}) == Reply((text("ok"),))


def test_a_required_header_is_checked_on_every_request_and_never_repeated() -> None:
    script = parse_script(
        {"name": "h", "turns": [{"say": "hi"}], "require_headers": {"X-Api-Key": "the-real-one"}}
    )
    assert advance(script, request(user("x")), {"x-api-key": "the-real-one"}).turn == 0
    for headers, failure in (
        ({}, "header X-Api-Key is missing"),
        ({"X-API-KEY": "placeholder"}, "header X-Api-Key has another value"),
    ):
        for body in (request(user("x")), request(user("x"), tools=())):
            reply = advance(script, body, headers)
            assert (reply.turn, reply.failures) == (None, (failure,))
            assert "the-real-one" not in str(reply)
            assert "placeholder" not in str(reply)


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"messages": 3, "tools": [{"name": "Bash"}]},
        {"messages": [3, None, {"role": []}, {"role": "assistant"}], "tools": [{"name": "Bash"}, 4]},
        {"messages": [{"role": "assistant", "content": [{"type": "tool_use", "id": []}]}], "tools": "Bash"},
        {
            "messages": [{"role": "user", "content": [{"type": "tool_result", "tool_use_id": "x"}, 1]}],
            "tools": [{"name": "Bash"}],
        },
        {
            "messages": [{"role": "user", "content": [{"type": "tool_result", "tool_use_id": {}}]}],
            "tools": [{"name": "Bash"}],
        },
    ],
)
def test_any_body_gets_an_answer(body: dict[str, Any]) -> None:
    assert advance(SCRIPT, body, {}).stop_reason == "end_turn"


def test_a_strange_result_id_is_no_result() -> None:
    strange = {
        "role": "user",
        "content": [{"type": "tool_result", "tool_use_id": {}}, {"type": "tool_result"}],
    }
    assert len(advance(SCRIPT, request(*first(), strange), {}).failures) == 2


def test_matches_looks_at_lines_and_quotes_are_short() -> None:
    assert list(Expect(matches="^OK$").unmet("Ran 1 test\n\nOK")) == []
    (failure,) = Expect(matches="^OK$").unmet("x" * 5000)
    assert len(failure) < 500
    assert "(5000 characters)" in failure


def test_tool_ids_do_not_repeat() -> None:
    ids = {tool_id(SCRIPT, turn, n) for turn in range(12) for n in range(12)}
    assert len(ids) == 144
