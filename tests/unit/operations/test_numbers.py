"""What a bottle says of its tokens and lines: understood whole or not at all, and whose turn it is to be asked."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import cast

import pytest

from claude_bottle.backend.base import Bottle
from claude_bottle.errors import BottleError
from claude_bottle.operations.context import Context
from claude_bottle.operations.counting import PAUSE, Counting, Visit, next_of
from claude_bottle.operations.numbers import Answer, Counter, Numbers, Part, cost, understand
from claude_bottle.proc import Result, SystemRunner
from claude_bottle.state.metadata import Metadata
from claude_bottle.state.paths import Home

CONTEXT = Context(Home(Path("/nowhere")), SystemRunner({}), {}, Path("/nowhere"))
METADATA = Metadata("a-00000", "a", "plain", "bubblewrap", 1.0, "clone", "/r", "", "bottle/a-00000", "0" * 40)


def line(ident: object = "msg_1", **usage: object) -> bytes:
    return json.dumps({"type": "assistant", "message": {"id": ident, "usage": usage}}).encode()


@pytest.mark.parametrize(
    ("said", "answer"),
    [
        (b"", Answer()),
        (b"changed  2 files changed, 3 insertions(+), 1 deletion(-) whole \n", Answer((3, 1))),
        (b"changed  1 file changed, 1 insertion(+) whole \n", Answer((1, 0))),
        (b"changed whole \n", Answer((0, 0))),
        (b"changed \n", Answer()),
        (b"changed  1 file changed, 3 insertions(+)\n", Answer()),
        (b"changed  1 file changed, 9999999999999999999 insertions(+) whole\n", Answer((999999999, 0))),
        (b"read 7 3 ./a/b.jsonl\nxyz\nmore\n", Answer(None, (Part("./a/b.jsonl", 7, b"xyz"),), True)),
        (b"read 7 3 ./a/b.jsonl\n\nz\n\n", Answer(None, (Part("./a/b.jsonl", 7, b"\nz\n"),))),
        (b"read 7 3 a b\nxyz\n", None),
        (b"read -7 3 a\nxyz\n", None),
        (b"read 7 999999999 a\nxyz\n", None),
        (b"read 7 4 a\nxyz\n", None),
        (b"read 7 4 a", None),
        (b"read 0 0 " + b"a" * 201 + b"\n\n", None),
        (b"\x1b[2J\n", None),
        (b"\xff" * 1000, None),
    ],
)
def test_an_answer_is_understood_whole_or_not_at_all(said: bytes, answer: Answer | None) -> None:
    assert understand(said) == answer


def test_what_a_message_costs() -> None:
    usage = {"input_tokens": 1, "cache_creation_input_tokens": 20, "output_tokens": 300}
    more = {"cache_read_input_tokens": 4000, "cache_creation": {"ephemeral_5m_input_tokens": 20}}
    assert cost(line(**usage, **more)) == ("msg_1", 321)
    assert cost(line(output_tokens=None)) == ("msg_1", 0)


@pytest.mark.parametrize(
    "said",
    [
        line(output_tokens=-1),
        line(output_tokens=True),
        line(output_tokens=1.5),
        line(output_tokens="9"),
        line(output_tokens=[1]),
        line(output_tokens=10**9 + 1),
        line(output_tokens=1).replace(b": 1}", b": 1" + b"0" * 400 + b"}"),
        line(output_tokens=1).replace(b": 1}", b": 1" + b"0" * 40_000 + b"}"),
        line(7, output_tokens=1),
        line("m" * 1000, output_tokens=1),
        line(output_tokens=1)[:-1],
        b'{"message": {"id": "m", "usage": []}}',
        b'{"message": ["usage"]}',
        b'"usage"',
        b"[" * 100_000 + b'"usage"',
        b'{"usage": "\xff"}',
        b'{"message": {"id": "m"}}',
    ],
)
def test_what_is_no_message_costs_nothing(said: bytes) -> None:
    assert cost(said) == ("", 0)


class Saying:
    """A bottle that says this, whatever it is asked, and keeps what it was told."""

    slug = "a-00000"

    def __init__(self) -> None:
        self.said, self.status, self.told = b"", 0, ""

    def exec(self, argv: list[str], *, stdin: bytes, timeout: float, limit: int) -> Result:
        self.told = stdin.decode()
        return Result(self.status, self.said)

    def look(self, counter: Counter) -> Numbers:
        return counter.look(cast(Bottle, self), METADATA)


def test_only_what_is_new_is_asked_for_and_a_torn_line_waits_for_its_end() -> None:
    bottle, counter = Saying(), Counter()
    whole = line(output_tokens=5) + b"\n"
    bottle.said = b"read 0 %d a\n%s\n" % (len(whole) + 9, whole + whole[:9])
    assert bottle.look(counter).tokens == 5
    assert bottle.told == "|"
    second = whole.replace(b"msg_1", b"msg_2")
    bottle.said = b"read %d %d a\n%s\n" % (len(whole), len(second), second)
    assert bottle.look(counter).tokens == 10
    assert bottle.told == f"|a {len(whole)}|"
    bottle.look(counter)
    assert bottle.told == f"|a {len(whole) + len(second)}|"


def test_a_line_without_end_is_passed_over_and_the_next_one_counts() -> None:
    bottle, counter = Saying(), Counter()
    size = 2 << 20
    bottle.said = b"more\nread 0 %d a\n%s\n" % (size, b"x" * size)
    assert bottle.look(counter).tokens is None
    rest = b"x" * 10 + line(output_tokens=9) + b"\n" + line(output_tokens=5) + b"\n"
    bottle.said = b"read %d %d a\n%s\n" % (size, len(rest), rest)
    assert bottle.look(counter).tokens == 5


def test_a_transcript_that_begins_anew_is_counted_anew_but_no_message_twice() -> None:
    bottle, counter = Saying(), Counter()
    one, two = line(output_tokens=5) + b"\n", line("msg_2", output_tokens=7) + b"\n"
    bottle.said = b"read 0 %d a\n%s\n" % (len(one + two), one + two)
    assert bottle.look(counter).tokens == 12
    bottle.said = b"read 0 %d a\n%s\n" % (len(two), two)
    assert bottle.look(counter).tokens == 12
    assert bottle.look(counter).tokens == 12


def test_a_bottle_that_says_nothing_that_can_be_understood_is_an_error() -> None:
    bottle = Saying()
    for bottle.said, bottle.status in ((b"?", 0), (b"", 1)):
        with pytest.raises(BottleError):
            bottle.look(Counter())


@pytest.mark.parametrize(
    ("statuses", "visits", "now", "turn"),
    [
        ({}, {}, 0.0, None),
        ({"a": "starting"}, {}, 0.0, None),
        ({"a": "idle"}, {}, 0.0, "a"),
        ({"a": "idle", "b": "idle"}, {"a": Visit("idle", 1.0, 16.0)}, 99.0, "b"),
        ({"a": "idle"}, {"a": Visit("idle", 1.0, 16.0)}, 99.0, None),
        ({"a": "idle"}, {"a": Visit("idle", 1.0, 16.0, more=True)}, 99.0, "a"),
        ({"a": "idle"}, {"a": Visit("working", 1.0, 16.0)}, 99.0, "a"),
        ({"a": "idle"}, {"a": Visit("working", 1.0, 16.0)}, 15.0, None),
        ({"a": "working"}, {"a": Visit("working", 1.0, 16.0)}, 16.0, "a"),
        (
            {"a": "working", "b": "working"},
            {"a": Visit("working", 2.0, 16.0), "b": Visit("working", 1.0, 16.0)},
            16.0,
            "b",
        ),
    ],
)
def test_whose_turn_it_is(
    statuses: dict[str, str], visits: dict[str, Visit], now: float, turn: str | None
) -> None:
    assert next_of(statuses, visits, now) == turn


def test_one_bottle_at_a_time_and_nobody_waits_for_it() -> None:
    inside, let = threading.Semaphore(0), threading.Semaphore(0)
    asked: list[str] = []

    def look(slug: str, _: Counter) -> Numbers:
        asked.append(slug)
        inside.release()
        let.acquire()
        if slug == "b":
            raise BottleError("it has ended")
        return Numbers(len(asked), 1, 2)

    now = [0.0]
    counting = Counting(CONTEXT, look, lambda: now[0])
    statuses = {"a": "idle", "b": "working"}
    assert counting.look(statuses) == {}
    inside.acquire()
    assert counting.look(statuses) == {}
    assert asked == ["a"]
    let.release()
    counting.wait(10)
    assert counting.look(statuses) == {"a": Numbers(1, 1, 2)}
    let.release(9)
    counting.wait(10)
    assert counting.look(statuses) == {"a": Numbers(1, 1, 2), "b": Numbers()}
    now[0] = PAUSE
    counting.look({**statuses, "a": "waiting for input"})
    counting.wait(10)
    assert counting.look(statuses)["a"] == Numbers(3, 1, 2)
    counting.wait(10)
    assert asked == ["a", "b", "a", "b"]
    assert counting.look({"b": "idle"}) == {"b": Numbers()}
    assert counting.look({}) == {}
