"""The dashboard's side of an act: every word understood or refused, and one end, however it comes."""

from __future__ import annotations

import json
import math
import os
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from claude_bottle.cli.pipe import PipeScreen
from claude_bottle.dashboard import acting
from claude_bottle.dashboard.acting import (
    Act,
    Ask,
    Confirm,
    Ended,
    Event,
    Failed,
    NotUnderstood,
    Paired,
    Put,
    Said,
    Stepped,
    event_of,
)
from claude_bottle.errors import BottleError, UsageError
from tests.support.processes import all_processes, eventually, parent_of, start_of

# The parser


@pytest.mark.parametrize(
    ("line", "event"),
    [
        ('{"pair": ["backend", "bubblewrap"]}', Paired("backend", "bubblewrap")),
        ('{"say": "a word"}', Said("a word")),
        ('{"heading": "The plan"}', Said("The plan")),
        ('{"verdict": [false, "it leaks"]}', Said("NO  it leaks")),
        ('{"verdict": [true, "it holds"]}', Said("ok  it holds")),
        ('{"step": ["workspace", 12.5]}', Stepped("workspace", 12.5)),
        ('{"put": "agent-abcde"}', Put("agent-abcde")),
        ('{"confirm": "Start it?"}', Confirm("Start it?")),
        ('{"ask": "What is it?"}', Ask("What is it?")),
        ('{"error": "it failed", "hint": "mend it"}', Failed("it failed", "mend it")),
        ('{"ended": 143}', Ended(143)),
    ],
)
def test_each_word_is_an_event(line: str, event: Event) -> None:
    assert event_of(line.encode()) == event


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"Traceback (most recent call last):",
        b"{}",
        b"[]",
        b"null",
        b'{"say": 1}',
        b'{"say": "a", "put": "b"}',
        b'{"confirm": "Go?", "ended": 0}',
        b'{"pair": ["one"]}',
        b'{"pair": ["one", "two", "three"]}',
        b'{"pair": {"one": "two"}}',
        b'{"step": ["a", true]}',
        b'{"step": ["a", NaN]}',
        b'{"step": ["a", 1e999]}',
        b'{"step": ["a", Infinity]}',
        b'{"verdict": [1, "a"]}',
        b'{"ended": true}',
        b'{"ended": -1}',
        b'{"ended": 256}',
        b'{"ended": 1.0}',
        b'{"error": "no hint"}',
        b'{"error": "a", "hint": null}',
        b'{"unheard": "of"}',
        b"[" * 100_000,
        b'{"ended": ' + b"9" * 10_000 + b"}",
        b"\xff",
    ],
    ids=lambda line: repr(line[:30]),
)
def test_what_is_none_of_them_is_refused(line: bytes) -> None:
    with pytest.raises(NotUnderstood):
        event_of(line)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3),
    max_leaves=4,
)
WORDS = ("pair", "say", "step", "put", "verdict", "heading", "confirm", "ask", "error", "hint", "ended")


def assert_sound(line: bytes) -> None:
    try:
        event = event_of(line)
    except NotUnderstood:
        return
    assert isinstance(event, Event)
    for field in event:
        assert isinstance(field, str | int | float)
        assert not isinstance(field, bool)
        assert not isinstance(field, float) or math.isfinite(field)


@settings(deadline=None)
@given(st.binary(max_size=300))
def test_no_bytes_surprise_the_parser(line: bytes) -> None:
    assert_sound(line)


@settings(deadline=None)
@given(st.dictionaries(st.sampled_from(WORDS), JSON, min_size=1, max_size=3))
def test_no_json_surprises_the_parser(message: dict[str, Any]) -> None:
    assert_sound(json.dumps(message).encode())


@settings(deadline=None)
@given(st.text(max_size=3000), st.text(max_size=3000), st.floats(0, 1e9))
def test_what_the_command_line_says_is_understood(text: str, more: str, ms: float) -> None:
    """Both sides of the pipe have the same words."""
    reader, output = os.pipe()
    try:
        screen = PipeScreen(-1, output)
        screen.pair(text, more)
        screen.say(text)
        screen.step(text, ms)
        screen.put(text)
        screen.verdict(True, text)
        screen.heading(text)
        screen.error(BottleError(text, more))
        screen.ended(5)
        lines = os.read(reader, 1 << 20).splitlines()
    finally:
        os.close(reader)
        os.close(output)
    kinds = [type(event_of(line)) for line in lines]
    assert kinds == [Paired, Said, Stepped, Put, Said, Said, Failed, Ended]


# Acts of programs that we make up


class Heard:
    """What an act tells. `reply` answers, from the act's own thread."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self._changed = threading.Condition()

    def __call__(self, event: Event) -> None:
        with self._changed:
            self.events.append(event)
            self._changed.notify_all()

    def until(self, kind: type[Event], count: int = 1) -> list[Event]:
        """All, when there are so many of a kind."""
        with self._changed:
            assert self._changed.wait_for(lambda: self.count(kind) >= count, 60), self.events
            return list(self.events)

    def count(self, kind: type[Event]) -> int:
        return sum(isinstance(event, kind) for event in self.events)

    def the_end(self) -> list[Event]:
        """All of it: exactly one end, and nothing after it."""
        self.until(Ended)
        assert eventually(lambda: not [t for t in threading.enumerate() if t.name.startswith("act ")])
        assert [type(event) for event in self.events].count(Ended) == 1
        assert isinstance(self.events[-1], Ended)
        return self.events


def act(heard: Heard, script: str, tmp_path: Path) -> Act:
    """A Python program in the place of the command line."""
    head = "import sys, os, json, time, signal\ndef say(**m): os.write(1, (json.dumps(m) + '\\n').encode())\n"
    program = (sys.executable, "-I", "-S", "-c", head + script)
    return Act(("tested", "word"), heard, {"PATH": os.environ["PATH"]}, tmp_path, program)


def test_events_come_in_order_and_the_end_last(tmp_path: Path) -> None:
    heard = Heard()
    act(heard, "say(say=' '.join(sys.argv[1:]))\nsay(put=os.getcwd())\nsay(ended=4)", tmp_path)
    assert heard.the_end() == [Said("tested word"), Put(str(tmp_path)), Ended(4)]


def test_it_has_its_own_session_and_the_environment_it_was_given(tmp_path: Path) -> None:
    heard = Heard()
    act(
        heard,
        "say(put=str(os.getsid(0) == os.getpid()))\nsay(put=str(len(os.environ)))\nsay(ended=0)",
        tmp_path,
    )
    first, second, _ = heard.the_end()
    assert first == Put("True")
    assert isinstance(second, Put)
    assert int(second.line) <= 2  # Python adds LC_CTYPE


def test_an_answer_counts_once_and_for_its_question(tmp_path: Path) -> None:
    script = """
say(confirm="first?")
say(put=sys.stdin.readline().strip())
say(ask="second?")
say(put=sys.stdin.readline().strip())
say(say="no question")
say(put=sys.stdin.readline().strip() or "nothing more")
say(ended=0)
"""
    heard = Heard()
    one = act(heard, script, tmp_path)
    one.answer("too early, or for another question")
    heard.until(Confirm)
    one.answer("not a value")
    one.confirm(True)
    one.confirm(True)
    one.confirm(False)
    heard.until(Ask)
    one.confirm(True)
    one.answer("s3cret")
    one.answer("again")
    heard.until(Said)
    one.confirm(True)
    one.give_up()
    assert [event.line for event in heard.the_end() if isinstance(event, Put)] == [
        '{"yes": true}',
        '{"value": "s3cret"}',
        "nothing more",
    ]


def test_an_answer_to_one_that_has_ended_is_nothing(tmp_path: Path) -> None:
    heard = Heard()
    one = act(heard, "say(confirm='Go?')\nsay(ended=0)", tmp_path)
    heard.the_end()
    one.confirm(True)
    one.answer("x")
    one.give_up()
    one.end()
    one.end()


def test_an_answer_after_it_was_given_up_is_nothing(tmp_path: Path) -> None:
    heard = Heard()
    one = act(
        heard,
        "sys.stdin.readline()\nsay(confirm='Go?')\nsay(put=sys.stdin.readline())\nsay(ended=0)",
        tmp_path,
    )
    one.give_up()
    heard.until(Confirm)
    one.confirm(True)
    assert heard.the_end() == [Confirm("Go?"), Put(""), Ended(0)]


def test_a_value_that_would_not_fit_is_refused_and_may_be_given_again(tmp_path: Path) -> None:
    heard = Heard()
    one = act(heard, "say(ask='What?')\nsay(put=sys.stdin.readline().strip())\nsay(ended=0)", tmp_path)
    heard.until(Ask)
    with pytest.raises(UsageError):
        one.answer("x" * 40_000)
    one.answer("short")
    assert Put('{"value": "short"}') in heard.the_end()


@pytest.mark.parametrize(
    ("script", "words", "status"),
    [
        ("raise RuntimeError('so it goes')", "RuntimeError: so it goes", 1),
        ("sys.exit(7)", "no word", 7),
        ("sys.exit(0)", "no word", 1),
        ("os.kill(os.getpid(), signal.SIGKILL)", "signal 9", 137),
        ("sys.stdout.write('{\"ended\": 0}'); sys.stdout.flush(); os._exit(0)", "no word", 1),
        ("os.write(2, b'x' * 9000 + b'\\nlast words\\n'); os._exit(3)", "last words", 3),
    ],
)
def test_one_that_breaks_off_has_failed(tmp_path: Path, script: str, words: str, status: int) -> None:
    heard = Heard()
    act(heard, f"say(say='begun')\n{script}", tmp_path)
    begun, failed, ended = heard.the_end()
    assert (begun, ended) == (Said("begun"), Ended(status))
    assert isinstance(failed, Failed)
    assert failed.message.startswith("tested broke off: ")
    assert words in failed.message
    assert failed.hint


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("print('not json', flush=True)", "not JSON"),
        ("say(unheard='of')", "none of its words"),
        ("os.write(1, b'x' * (2 << 20))", "a line of more than 1 MiB"),
        ("os.write(1, b'x' * (2 << 20) + b'\\n')", "a line of more than 1 MiB"),
        ("[say(say='a') for _ in range(20_001)]", "more than 20000 lines"),
    ],
)
def test_one_that_is_not_understood_is_ended(tmp_path: Path, line: str, words: str) -> None:
    heard = Heard()
    act(heard, f"signal.signal(signal.SIGPIPE, signal.SIG_IGN)\n{line}\ntime.sleep(600)", tmp_path)
    *_, failed, ended = heard.the_end()
    assert isinstance(failed, Failed)
    assert words in failed.message
    assert isinstance(ended, Ended)
    assert ended.status != 0
    assert heard.count(Failed) == 1


def test_one_that_is_not_understood_may_unwind_in_peace(tmp_path: Path) -> None:
    """It is told to end once, and what it says then, to nobody, does not stop it."""
    heard, mark = Heard(), tmp_path / "unwound"
    script = f"""
def unwind(*_):
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    try:
        for _ in range(200): os.write(1, b"x" * 65536)
    except BrokenPipeError:
        time.sleep(0.1)
        open({str(mark)!r}, "w").write("all of it")
    os._exit(9)
signal.signal(signal.SIGTERM, unwind)
say(nonsense=1)
time.sleep(600)
"""
    one = act(heard, script, tmp_path)
    heard.until(Failed)
    one.end()
    assert heard.the_end()[-1] == Ended(9)
    assert mark.read_text() == "all of it"


def test_a_second_end_does_not_cut_the_first_short(tmp_path: Path) -> None:
    heard = Heard()
    script = """
def unwind(*_):
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    say(say="unwinding")
    sys.stdin.readline()
    say(ended=143)
    os._exit(143)
signal.signal(signal.SIGTERM, unwind)
say(say="ready")
while True: time.sleep(1)
"""
    one = act(heard, script, tmp_path)
    heard.until(Said)
    one.end()
    heard.until(Said, 2)
    one.end()
    one.give_up()
    assert heard.the_end() == [Said("ready"), Said("unwinding"), Ended(143)]


def test_one_that_hangs_without_output_is_ended_in_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(acting, "_LEAVE_SECONDS", 0.05)
    monkeypatch.setattr(acting, "_UNWIND_SECONDS", 0.05)
    heard = Heard()
    act(heard, "signal.signal(15, signal.SIG_IGN)\nsay(say='bye')\nos.close(1)\ntime.sleep(600)", tmp_path)
    said, failed, ended = heard.the_end()
    assert (said, ended) == (Said("bye"), Ended(137))
    assert isinstance(failed, Failed)


def test_one_whose_child_holds_its_output_ends_all_the_same(tmp_path: Path) -> None:
    heard = Heard()
    script = """
if os.fork() == 0:
    sys.stdin.readline()
    os._exit(0)
say(ended=0)
os._exit(0)
"""
    act(heard, script, tmp_path)
    assert heard.the_end() == [Ended(0)]


@pytest.mark.parametrize(
    ("program", "folder"),
    [(("/nowhere/at-all",), "."), ((sys.executable,), "gone"), ((sys.executable, "a\0b"), ".")],
)
def test_one_that_cannot_be_started_is_an_error_and_no_act(
    tmp_path: Path, program: tuple[str, ...], folder: str
) -> None:
    heard = Heard()
    with pytest.raises(BottleError, match="start cannot be started"):
        Act(("start",), heard, {}, tmp_path / folder, program)
    assert heard.events == []


def test_what_cannot_be_followed_does_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(pid: int) -> int:
        raise OSError(24, "Too many open files")

    before = children()
    monkeypatch.setattr(os, "pidfd_open", refuse)
    with pytest.raises(BottleError, match="Too many open files"):
        act(Heard(), "time.sleep(600)", tmp_path)
    assert children() == before


def children() -> set[int]:
    return {pid for pid in all_processes() if parent_of(pid) == os.getpid() and start_of(pid)}


def test_nothing_of_an_act_stays_open(tmp_path: Path) -> None:
    act(first := Heard(), "say(ended=0)", tmp_path)
    first.the_end()
    before = len(os.listdir("/proc/self/fd"))
    for script in ("say(ended=0)", "raise SystemExit(1)", "say(bad=1)"):
        heard = Heard()
        act(heard, script, tmp_path)
        heard.the_end()
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_signal_for_the_terminal_is_not_for_it(tmp_path: Path) -> None:
    """Ctrl-C goes to the process group of the terminal's foreground, which an act is not in."""
    heard = Heard()
    one = act(heard, "say(put=str(os.getpgrp()))\nsys.stdin.readline()\nsay(ended=0)", tmp_path)
    (group,) = heard.until(Put)
    assert group == Put(str(one.pid))
    assert one.pid != os.getpgrp()
    one.give_up()
    assert heard.the_end()[-1] == Ended(0)
