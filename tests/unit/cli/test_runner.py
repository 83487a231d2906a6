"""The words of a command line: options may stand anywhere between the others."""

from __future__ import annotations

import argparse
import signal
from collections.abc import Iterator
from importlib import import_module
from itertools import permutations
from types import ModuleType

import pytest

from claude_bottle.cli import COMMANDS
from claude_bottle.cli.runner import ENDING, parser_of, run_command, words_of
from claude_bottle.errors import UsageError

MODULES = {"exec": "exec_", "list": "list_"}


def module_of(name: str) -> ModuleType:
    return import_module(f"claude_bottle.cli.{MODULES.get(name, name)}")


@pytest.fixture
def own_signals() -> Iterator[None]:
    """A command that is run here takes the signals of the tests' own process."""
    before = {number: signal.getsignal(number) for number in ENDING}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def parsed(name: str, *words: str) -> argparse.Namespace:
    return words_of(parser_of(name, module_of(name)), list(words))


ORDERS = [
    ("routes", ("add", "a-12345", "h.example"), (("--port", "80"), ("--port", "81"), ("--no-inspect",))),
    ("routes", ("remove", "a-12345", "h.example"), (("--all",), ("--decision", "d-1"))),
    ("routes", ("show", "a-12345"), (("--json",),)),
    ("allowlist", ("add", "a-12345", "h.example", "i.example"), (("--for", "3m"), ("--uses", "2"))),
    ("why", ("a-12345", "https://h.example/"), (("-X", "POST"), ("--json",))),
    ("proposals", (), (("--json",),)),
    ("proposals", ("reject", "p-1234"), (("--reason", "no"),)),
    ("proposals", ("approve", "p-1234"), (("--for", "3m"), ("--uses", "2"), ("--yes",))),
    ("logs", ("a-12345", "transcript"), (("--json",),)),
    ("logs", ("a-12345",), (("-f",),)),
    ("audit", ("show",), (("--agent", "a"), ("--json",))),
    ("list", ("preserved",), (("--json",),)),
    ("stop", ("a-12345", "b-12345"), ()),
    ("stop", (), (("--all",),)),
    ("run", ("agent",), (("-p", "prompt"), ("--json",), ("--timeout", "3m"))),
    ("start", ("agent",), (("--dry-run",), ("--workspace", "none"))),
]


@pytest.mark.parametrize(("name", "words", "options"), ORDERS)
def test_options_may_stand_anywhere(
    name: str, words: tuple[str, ...], options: tuple[tuple[str, ...], ...]
) -> None:
    """What stands for itself keeps its own order, and so do the options."""
    expected = parsed(name, *words, *(part for option in options for part in option))
    pieces = [("word", at) for at in range(len(words))] + [("option", at) for at in range(len(options))]
    for order in permutations(pieces):
        if any(
            [at for kind, at in order if kind == each] != sorted(at for kind, at in order if kind == each)
            for each in ("word", "option")
        ):
            continue
        given = [part for kind, at in order for part in ((words[at],) if kind == "word" else options[at])]
        assert parsed(name, *given) == expected, given


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("routes", ("add", "a-12345", "--bogus", "h.example")),
        ("routes", ("add", "a-12345", "h.example", "i.example")),
        ("routes", ("--port", "80")),
        ("why", ("a-12345",)),
        ("logs", ("a-12345", "nonsense")),
        ("run", ("agent",)),
    ],
)
def test_what_is_too_much_too_little_or_unknown_is_refused(
    name: str, words: tuple[str, ...], capsys: pytest.CaptureFixture[str], own_signals: None
) -> None:
    """The parser only raises, and says nothing itself: so it is told once, by whatever screen there is."""
    with pytest.raises(UsageError) as refused:
        parsed(name, *words)
    error = refused.value
    assert error.message.startswith(f"{name}: ")
    assert error.hint == f"claude-bottle {name} --help says what it takes"
    assert capsys.readouterr() == ("", "")
    assert run_command(name, module_of(name), list(words)) == error.exit_code == 2
    assert capsys.readouterr() == ("", f"claude-bottle: {error.message}\n  {error.hint}\n")


def test_what_stands_after_two_dashes_is_never_an_option() -> None:
    found = parsed("stop", "--", "--all")
    assert (found.all, found.slugs) == (False, ["--all"])


@pytest.mark.parametrize("name", COMMANDS)
def test_help_names_what_the_parser_takes(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    parser = parser_of(name, module_of(name))
    with pytest.raises(SystemExit) as ended:
        words_of(parser, ["--help"])
    assert ended.value.code == 0
    assert capsys.readouterr().out == parser.format_help()
