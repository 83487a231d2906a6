"""Hostile text in every field that others have a say in: nothing of it is obeyed by the terminal or the app.

The dashboard runs as a program on a terminal of its own. What it writes there is read twice: as the sequences
that it consists of, none of which may be one that is not written for harmless text as well; and by a terminal
emulator, whose screen has to be the one that the app believes in.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import select
import socket
import subprocess
import sys
import termios
import time
import unicodedata
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pyte
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from rich.cells import cell_len
from wcwidth import wcwidth

ROOT = Path(__file__).resolve().parents[2]
DASHBOARD = ROOT / "claude_bottle" / "dashboard"
COLUMNS, ROWS = 100, 30
_PATIENCE = 30.0
TAME = ["tame"]
WICKED = (
    "\x1b]0;title\x07",
    "\x1b]52;c;aGVsbG8=\x07",
    "\x1b]8;;https://example.org\x1b\\link\x1b]8;;\x1b\\",
    "\x1b]1337;File=inline=1:AAAA\x07",
    '\x1bP$q"p\x1b\\',
    "\x1b_Gi=31;AAAA\x1b\\",
    "\x1b^private\x1b\\",
    "\x1bXstring\x1b\\",
    "\x9d0;title\x9c",
    "\x90q\x9c\x9b6n",
    "\x1b[6n\x1b[c\x1b[>q\x1b[?2004l\x1b[?1049l\x1b[2J\x1b[H",
    "\x1b[31;5;8mred\x1b[0m",
    "\x1bc\x1b(0\x0e\x07\x05\x08\x08\x7f",
    "\r\n\x0b\x0cover",
    "[@click=app.hostile]HOSTILE[/]",
    "[@click='app.hostile()']HOSTILE[/][link=https://example.org]HOSTILE[/link]",
    "[red]HOSTILE[/red][/nothing][bold][",
    "\\[@click=app.hostile]HOSTILE",
    "$error {HOSTILE} %s {0} :smile:",
    "\u202eevil\u2066\u200b\u2028\u2029\ufeff",
    "\udc9b6n\udc1b]0;x",
    "宽字符 e\u0301\u0300 👩\u200d👩 ﷽",
    "#[fg=red]tmux#(hostile)",
)
_piece = st.one_of(
    st.sampled_from(WICKED),
    st.text(st.characters(), max_size=20),
    st.text(st.sampled_from("\x1b\x9b\x9d\x07[]@=;?0123456789hlmHJnc/\\ {}"), max_size=30),
)
_texts = st.lists(st.lists(_piece, min_size=1, max_size=4).map("".join), min_size=1, max_size=7)

# ECMA-48 as a terminal reads it: control strings to their end, control sequences, other escapes, controls.
_SEQUENCE = re.compile(
    r"(?P<string>(?:\x1b[]PX^_]|[\x90\x98\x9d\x9e\x9f]).*?(?:\x1b\\|\x07|\x9c|\Z))"
    r"|(?P<csi>(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~])"
    r"|(?P<escape>\x1b[ -/]*[0-~]?)"
    r"|(?P<control>[\x00-\x1f\x7f-\x9f])",
    re.DOTALL,
)
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
_PLACE = re.compile(r"\x1b\[\d*(?:;\d*)?H")


def sequences(written: str) -> set[str]:
    """What is no text, but for colours and places, of which there are many."""
    found = {match.group() for match in _SEQUENCE.finditer(written)}
    return {each for each in found if not _COLOUR.fullmatch(each) and not _PLACE.fullmatch(each)}


class Emulator:
    """The operator's terminal: the program on it, the screen, and all that was written since it was asked."""

    def __init__(self, master: int, peer: socket.socket) -> None:
        self._master, self._peer = master, peer
        self._heard = b""
        self._bytes = b""
        self.written = ""
        self.screen = pyte.Screen(COLUMNS, ROWS)
        self._stream = pyte.Stream(self.screen)

    def ask(self, texts: list[str]) -> Iterator[dict[str, Any]]:
        """What the app says of each of its views, once the screen here has had time to be the same."""
        self._peer.sendall(json.dumps(texts).encode() + b"\n")
        while not (said := self._next()).get("over"):
            self._settle(said["lines"])
            yield said
            self._peer.sendall(b"on\n")
        yield said

    def type(self, typed: bytes) -> None:
        os.write(self._master, typed)

    def _next(self) -> dict[str, Any]:
        deadline = time.monotonic() + _PATIENCE
        while b"\n" not in self._heard:
            assert time.monotonic() < deadline, "\n".join(self.screen.display)
            self._wait()
        line, self._heard = self._heard.split(b"\n", 1)
        said: dict[str, Any] = json.loads(line)
        return said

    def _settle(self, lines: list[str]) -> None:
        deadline = time.monotonic() + _PATIENCE / 3
        while differences(lines, self.screen.display) and time.monotonic() < deadline:
            self._wait()

    def _wait(self) -> None:
        ready, _, _ = select.select([self._master, self._peer], [], [], 0.1)
        if self._peer in ready:
            part = self._peer.recv(1 << 16)
            assert part, self.written[-3000:]
            self._heard += part
        if self._master in ready:
            with suppress(OSError):
                self._take(os.read(self._master, 1 << 16))

    def _take(self, part: bytes) -> None:
        self._bytes += part
        text = self._bytes.decode(
            "utf-8", errors="ignore"
        )  # a character in two halves comes whole the next time
        whole = len(text.encode())
        if self._bytes[:whole] != text.encode():
            text, whole = self._bytes.decode("utf-8", errors="replace"), len(self._bytes)
        self._bytes = self._bytes[whole:]
        self.written += text
        self._stream.feed(text)


def differences(lines: list[str], display: list[str]) -> list[tuple[str, str]]:
    """Rows where the terminal's screen is another than the app's, but for those with letters of whose width
    the two have different tables."""
    pairs = zip(lines, (row.rstrip() for row in display), strict=True)
    return [(mine, theirs) for mine, theirs in pairs if mine != theirs and _is_of_one_width(mine)]


def _is_of_one_width(line: str) -> bool:
    return all(cell_len(char) == wcwidth(char) > 0 for char in line)


@pytest.fixture(scope="module")
def emulator() -> Iterator[Emulator]:
    master, slave = os.openpty()
    termios.tcsetwinsize(slave, (ROWS, COLUMNS))
    ours, theirs = socket.socketpair()
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "PYTHONPATH") if name in os.environ}
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.support.hostile_app", str(theirs.fileno())],
        stdin=slave,
        stdout=slave,
        stderr=slave,
        cwd=ROOT,
        pass_fds=[theirs.fileno()],
        start_new_session=True,
        preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
        env={**kept, "TERM": "xterm-256color", "COLORTERM": "truecolor", "LANG": "C.UTF-8", "TZ": "UTC"},
    )
    theirs.close()
    try:
        yield Emulator(master, ours)
    finally:
        process.kill()
        process.wait()
        ours.close()
        os.close(slave)
        os.close(master)


@pytest.fixture(scope="module")
def harmless(emulator: Emulator) -> set[str]:
    """The sequences that are written for harmless text."""
    views = [said["view"] for said in emulator.ask(TAME) if "view" in said]
    assert len(views) > 25
    return sequences(emulator.written)


def check(said: dict[str, Any], emulator: Emulator, harmless: set[str]) -> None:
    assert said["fired"] == 0
    if "view" not in said:
        assert sequences(emulator.written) <= harmless
        return
    view = said["view"]
    assert said["metas"] == [], view
    assert differences(said["lines"], emulator.screen.display) == [], view
    for char in "".join(emulator.screen.display):
        assert unicodedata.category(char) not in ("Cc", "Cf", "Zl", "Zp"), (view, char)


@settings(
    max_examples=2, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], database=None
)
@given(texts=_texts)
@example(texts=list(WICKED))
@example(texts=["\x1b]52;c;aGVsbG8=\x07" * 30, "[@click=app.hostile]" * 50])
@example(texts=["", " ", "\n"])
def test_no_text_reaches_the_terminal_as_anything_but_text(
    emulator: Emulator, harmless: set[str], texts: list[str]
) -> None:
    emulator.written = ""
    for said in emulator.ask(texts):
        check(said, emulator, harmless)


_POINTERS = {f"\x1b]22;{shape}\x07" for shape in ("text", "pointer", "default")}  # Textual's, of the mouse
_SPOT = b"\x1b[<0;%d;%dM\x1b[<0;%d;%dm"  # the left button, down and up


def test_a_click_on_hostile_text_is_a_click_and_no_more(emulator: Emulator, harmless: set[str]) -> None:
    clicked, emulator.written = 0, ""
    for said in emulator.ask([text for text in WICKED if "HOSTILE" in text]):
        check(said, emulator, harmless | _POINTERS)
        if said.get("view", "").startswith("agents"):
            for row, text in enumerate(emulator.screen.display[:-1], 1):
                for found in re.finditer("HOSTILE", text):
                    at = (found.start() + 2, row)
                    emulator.type(_SPOT % (*at, *at))
                    clicked += 1
    assert clicked > 10


_PARSES_MARKUP = re.compile(
    r"from_markup|markup=True|\bMarkup\b|\bContent\b|\b(?:Static|Label|Markdown|Button|OptionList|DataTable)\("
    r"|\.notify\(|border_(?:sub)?title|\btooltip\b|console\.print\(|\.set_clipboard|copy_to_clipboard|open_url"
)


def test_nothing_in_the_dashboard_reads_markup() -> None:
    """Those read it in whatever they are given: text reaches a widget through `paint` alone."""
    files = sorted(DASHBOARD.rglob("*.py"))
    assert len(files) > 30
    found = [
        f"{file.relative_to(DASHBOARD)}:{number}: {line.strip()}"
        for file in files
        for number, line in enumerate(file.read_text().splitlines(), 1)
        if _PARSES_MARKUP.search(line)
    ]
    assert found == []


def test_what_reads_markup_would_be_found() -> None:
    for line in ("Static(text)", "self.notify(str(error))", "Text.from_markup(x)", "box.border_title = slug"):
        assert _PARSES_MARKUP.search(line)
