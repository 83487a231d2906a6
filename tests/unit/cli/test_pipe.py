"""A command that talks to a program: what it says is safe, and only an answer to its question is one."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from claude_bottle.backend.python import whole_python_argv
from claude_bottle.cli.pipe import PipeScreen
from claude_bottle.errors import BottleError, UsageError
from tests.support.e2e import PATIENCE

YES = b'{"yes": true}\n'


class Ends:
    """The program at the other end of a screen."""

    def __init__(self) -> None:
        answers, self._write = os.pipe()
        self._read, output = os.pipe()
        self._all = {answers, self._write, self._read, output}
        self.screen = PipeScreen(answers, output)

    def answer(self, data: bytes) -> None:
        os.write(self._write, data)

    def hang_up(self) -> None:
        self._close(self._write)

    def look_away(self) -> None:
        self._close(self._read)

    def said(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in os.read(self._read, 1 << 20).splitlines()]

    def await_said(self) -> dict[str, Any]:
        (message,) = self.said()
        return message

    def close(self) -> None:
        for number in tuple(self._all):
            self._close(number)

    def _close(self, number: int) -> None:
        self._all.remove(number)
        os.close(number)


@pytest.fixture
def ends() -> Iterator[Ends]:
    found = Ends()
    yield found
    found.close()


class Asking:
    """A question in a thread of its own; `outcome` is what came of it, or the error."""

    def __init__(self, ends: Ends, ask: str = "confirm") -> None:
        self._ends, self._ask = ends, ask
        self._outcome: bool | str | BottleError | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        screen = self._ends.screen
        try:
            self._outcome = screen.confirm("Go?", False) if self._ask == "confirm" else screen.ask("What?")
        except UsageError as error:
            self._outcome = error

    @property
    def outcome(self) -> bool | str | BottleError | None:
        self._thread.join(PATIENCE)
        assert not self._thread.is_alive()
        return self._outcome


def test_each_word_is_a_line_and_none_can_break_it(ends: Ends) -> None:
    screen, bad = ends.screen, "a\x1b]2;owned\x07\nb"
    screen.pair("label\x1b", bad)
    screen.say(bad)
    screen.step(bad, 12)
    screen.put_row((bad, "second"))
    screen.put_bytes(b"one\ttwo\x1b\nthree\n")
    screen.verdict(False, bad)
    screen.heading(bad)
    screen.error(BottleError(f"first\nsecond {bad}", "try\x1b"))
    screen.put_json({"bad": bad})
    screen.ended(3)
    safe = r"a\x1b]2;owned\x07\x0ab"
    said = ends.said()
    assert json.loads(said.pop(-2)["put"]) == {"schema": 1, "bad": bad}
    assert said == [
        {"pair": ["label\\x1b", safe]},
        {"say": safe},
        {"step": [safe, 12.0]},
        {"put": f"{safe}\tsecond"},
        {"put": r"one    two\x1b"},
        {"put": "three"},
        {"verdict": [False, safe]},
        {"heading": safe},
        {"error": "first\nsecond a\\x1b]2;owned\\x07\nb", "hint": "try\\x1b"},
        {"ended": 3},
    ]


@pytest.mark.parametrize("text", ["\U000e0001" * 200_000, "😀" * 200_000, "\t" * 200_000, "\n" * 200_000])
def test_no_line_is_long_enough_to_be_refused(ends: Ends, text: str) -> None:
    screen = ends.screen
    for tell in (screen.say, screen.put, screen.heading, lambda text: screen.pair(text, text)):
        lines: list[bytes] = []
        reader = threading.Thread(target=lambda lines=lines: lines.append(read_line(ends)))
        reader.start()
        tell(text)
        reader.join(PATIENCE)
        assert 10 < len(lines[0]) < 1 << 20


def read_line(ends: Ends) -> bytes:
    found = b""
    while not found.endswith(b"\n"):
        found += os.read(ends._read, 65536)
    return found


def test_json_that_would_have_to_be_cut_is_refused(ends: Ends) -> None:
    with pytest.raises(BottleError, match="too much"):
        ends.screen.put_json({"text": "x" * 40_000})


def test_a_yes_is_a_yes_and_a_value_is_the_value(ends: Ends) -> None:
    for answer, outcome in ((YES, True), (b'{"yes":false}\n', False)):
        asking = Asking(ends)
        assert ends.await_said() == {"confirm": "Go?"}
        ends.answer(answer)
        assert asking.outcome is outcome
    asking = Asking(ends, "ask")
    assert ends.await_said() == {"ask": "What?"}
    ends.answer(json.dumps({"value": "s3cret ünï"}).encode()[:9])  # in two parts
    ends.answer(json.dumps({"value": "s3cret ünï"}).encode()[9:] + b"\n")
    assert asking.outcome == "s3cret ünï"


def test_what_need_not_be_asked_is_not(ends: Ends) -> None:
    assert ends.screen.confirm("Go?", True)
    ends.screen.say("on")
    assert ends.said() == [{"say": "on"}]


NO_ANSWERS = [
    b"yes\n",
    b"\n",
    b"true\n",
    b'{"yes": 1}\n',
    b'{"yes": "true"}\n',
    b'{"yes": null}\n',
    b'{"value": "true"}\n',
    b'{"yes": true, "more": 1}\n',
    b'{"yes": true}\n{"yes": true}\n',
    b'{"yes": true}\n\n',
    b'[{"yes": true}]\n',
    b"[" * 60_000 + b"\n",
    b"\xff\xfe\n",
]


@pytest.mark.parametrize("answer", NO_ANSWERS, ids=lambda data: repr(data[:24]))
@pytest.mark.parametrize("ask", ["confirm", "ask"])
def test_what_is_not_understood_is_no_answer(ends: Ends, answer: bytes, ask: str) -> None:
    asking = Asking(ends, ask)
    ends.await_said()
    ends.answer(answer)
    if ask == "ask" and b"value" in answer:
        assert asking.outcome == "true"
        return
    assert isinstance(asking.outcome, UsageError)


@settings(deadline=None)
@given(st.binary(max_size=200))
def test_only_a_yes_is_one(data: bytes) -> None:
    ends = Ends()
    try:
        asking = Asking(ends)
        ends.await_said()
        ends.answer(data)
        ends.hang_up()
        assert asking.outcome is not True
    finally:
        ends.close()


@pytest.mark.parametrize("value", ["two\nlines", "a\0nul", "\ud800", 7, None, ["s3cret"]])
def test_a_value_that_nobody_could_have_typed_is_refused_and_not_shown(ends: Ends, value: object) -> None:
    asking = Asking(ends, "ask")
    ends.await_said()
    ends.answer(json.dumps({"value": value}).encode() + b"\n")
    outcome = asking.outcome
    assert isinstance(outcome, UsageError)
    assert "s3cret" not in outcome.message
    assert outcome.__cause__ is None


def test_a_secret_that_is_not_json_is_not_shown(ends: Ends) -> None:
    asking = Asking(ends, "ask")
    ends.await_said()
    ends.answer(b'{"value": "s3cret"\n')
    outcome = asking.outcome
    assert isinstance(outcome, UsageError)
    assert "s3cret" not in f"{outcome.message}{outcome.__context__!r}" or outcome.__suppress_context__


@pytest.mark.parametrize("left", [b"", b'{"yes": true}', b'{"value": "v"}'])
def test_nobody_left_means_no(left: bytes) -> None:
    """Not even for an answer that lacks nothing but the end of its line."""
    for ask in ("confirm", "ask"):
        ends = Ends()
        asking = Asking(ends, ask)
        ends.await_said()
        if left:
            ends.answer(left)
        ends.hang_up()
        outcome = asking.outcome
        assert outcome is False if ask == "confirm" else isinstance(outcome, UsageError)
        ends.close()


def test_an_answer_that_came_before_its_question_is_none(ends: Ends) -> None:
    ends.answer(YES)
    with pytest.raises(UsageError, match="before it was asked"):
        ends.screen.confirm("Go?", False)


def test_an_endless_answer_is_refused(ends: Ends) -> None:
    asking = Asking(ends)
    ends.await_said()
    for _ in range(4):
        ends.answer(b" " * 40_000)
    assert isinstance(asking.outcome, UsageError)


def test_it_goes_on_when_nobody_reads_but_is_not_agreed_with(ends: Ends) -> None:
    ends.look_away()
    ends.hang_up()
    for _ in range(3):
        ends.screen.say("on")
    assert ends.screen.confirm("Go?", False) is False
    with pytest.raises(UsageError):
        ends.screen.ask("What?")
    ends.screen.ended(0)


# As a program


def run(*words: str, stdin: bytes = b"", **environment: str) -> tuple[int, list[dict[str, Any]], str]:
    done = subprocess.run(
        [*whole_python_argv("cli.pipe"), *words],
        input=stdin,
        capture_output=True,
        env={"PATH": os.environ["PATH"], "LANG": "C.UTF-8", **environment},
        timeout=PATIENCE,
        check=False,
    )
    return done.returncode, [json.loads(line) for line in done.stdout.splitlines()], done.stderr.decode()


@pytest.mark.parametrize(
    ("words", "status", "told"),
    [
        ((), 2, "no such command"),
        (("bogus",), 2, "no such command"),
        (("../cli",), 2, "no such command"),
        (("pipe",), 2, "no such command"),
        (("start",), 2, "start: the following arguments are required: agent"),
        (("stop",), 2, "name what to stop"),
        (("start", "somebody"), 2, "needs a terminal"),
        (("start", "somebody", "--detach", "--bogus"), 2, "unrecognized arguments: --bogus"),
        (("resume", "some-12345", "--detach"), 3, "some-12345"),
        (("routes", "edit", "some-12345"), 2, "no terminal to ask on"),
        (("proposals", "reject", "p-0000"), 3, "p-0000"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else None,
)
def test_a_mistake_is_told_as_on_a_terminal(
    tmp_path: Path, words: tuple[str, ...], status: int, told: str
) -> None:
    code, said, talk = run(*words, HOME=str(tmp_path), CLAUDE_BOTTLE_HOME=str(tmp_path / "home"))
    assert (code, said[-1]) == (status, {"ended": status}), (said, talk)
    assert told in next(message["error"] for message in said if "error" in message)
    assert talk == ""


def test_a_reading_command_puts_its_rows(tmp_path: Path) -> None:
    code, said, _ = run("list", "agents", "--json", CLAUDE_BOTTLE_HOME=str(tmp_path / "home"))
    assert (code, said[-1]) == (0, {"ended": 0})
    assert json.loads(said[0]["put"])["agents"] == []


def test_a_crash_is_no_end_of_its_own(tmp_path: Path) -> None:
    """Words for whoever started it, and no last line."""
    broken = [
        word.replace("start(sys", "import claude_bottle.cli as c; c.COMMANDS = None; start(sys", 1)
        for word in whole_python_argv("cli.pipe")
    ]
    done = subprocess.run(
        [*broken, "list"], stdin=subprocess.DEVNULL, capture_output=True, timeout=PATIENCE, check=False
    )
    assert (done.returncode, done.stdout) == (1, b"")
    assert done.stderr.splitlines()[-1].startswith(b"TypeError")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_ends_it_with_a_word(tmp_path: Path, number: signal.Signals) -> None:
    with subprocess.Popen(
        [*whole_python_argv("cli.pipe"), "list", "--watch", "--json"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={"PATH": os.environ["PATH"], "CLAUDE_BOTTLE_HOME": str(tmp_path / "home")},
    ) as process:
        assert process.stdout is not None
        assert b'"put"' in process.stdout.readline()
        process.send_signal(number)
        said = [json.loads(line) for line in process.stdout]
    assert said[-2:] == [{"say": f"ended by signal {number:d}"}, {"ended": 128 + number}]
    assert process.returncode == 128 + number
