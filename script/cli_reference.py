"""docs/cli.md, made from what each subcommand tells its own parser: the words are those of `--help`.

Invariant: the text depends on the commands alone. The help that argparse prints is worded and wrapped
differently by different versions of Python, so it is not taken over as it is.
"""

from __future__ import annotations

import argparse
import sys
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

from claude_bottle import cli, errors
from claude_bottle.backend import known_backend_names

PAGE = Path(__file__).resolve().parent.parent / "docs" / "cli.md"
_MODULES = {"exec": "exec_", "list": "list_"}
_HEAD = f"""# The command line

Made by `script/docs` from the commands themselves; change those, not this page.

`claude-bottle COMMAND ...`, or `./cli.py COMMAND ...` in a checkout. Of the backends that `--backend` may
name, this release has: {", ".join(known_backend_names())}.

Standard output is data, standard error is talk. With `--json` the data is one object with a `schema` number.
Colours appear only on a terminal and without `NO_COLOR`. Where there is no terminal nothing is asked: `--yes`
answers the preflight, and without it the command refuses. What comes from a bottle or a file is escaped
before a terminal shows it; a pipe or a file gets data as it is. `exec` and an attached `claude` are the
exception: your terminal gets their bytes as they are.

| exit status | meaning |
|---|---|
| {errors.EXIT_OK} | done |
| {errors.EXIT_FAILED} | failed |
| {errors.EXIT_USAGE} | the command line, the manifest or an answer cannot be carried out as given |
| {errors.EXIT_NOT_FOUND} | a named thing does not exist: an agent, a slug, a file |
| {errors.EXIT_DENIED} | denied by policy, as `why` says |
| {errors.EXIT_BACKEND_MISSING} | the backend, or a part of the host that it needs, is missing or unfit |
| 129, 130, 143 | ended by SIGHUP, SIGINT, SIGTERM, after everything was unwound |

`start`, `run` and `exec` pass on the status of the program inside. 125 says that the bottle could not be
entered, 126 that the program cannot be executed, 127 that it is not there.

| variable | meaning |
|---|---|
| `CLAUDE_BOTTLE_HOME` | where everything is kept, instead of `~/.claude-bottle`; an absolute path |
| `CLAUDE_BOTTLE_BACKEND` | the backend, where `--backend` names none |
| `CLAUDE_BOTTLE_CLAUDE` | the native Claude Code binary to use |
| `CLAUDE_BOTTLE_ENVOY` | the Envoy binary to use |
| `SSL_CERT_FILE` | the certificate authorities that servers are checked by, instead of the system's |
| `CLAUDE_CONFIG_DIR` | where your own Claude Code keeps its login and skills, instead of `~/.claude` |
"""


class Recorder(argparse.ArgumentParser):
    """A parser that remembers what it was told, in order."""

    def __init__(self) -> None:
        self.told: list[argparse.Action] = []
        super().__init__(add_help=False)

    def add_argument(self, *flags: Any, **settings: Any) -> argparse.Action:
        action = super().add_argument(*flags, **settings)
        self.told.append(action)
        return action


def page() -> str:
    summaries = "\n".join(f"| [{name}](#{name}) | {cell(text)} |" for name, text in cli.COMMANDS.items())
    table = f"| command | what it does |\n|---|---|\n{summaries}\n"
    return "\n".join([_HEAD, table, *(section(name, command_module(name)) for name in cli.COMMANDS)])


def command_module(name: str) -> ModuleType:
    return import_module(f"claude_bottle.cli.{_MODULES.get(name, name)}")


def section(name: str, module: ModuleType) -> str:
    parser = Recorder()
    module.configure(parser)
    words = [usage(name, parser), (module.__doc__ or "").strip(), parser.epilog or ""]
    lines = [f"## {name}", "", "```", "\n\n".join(filter(None, words)), "```", ""]
    rows = [row(action) for action in parser.told if action.help or action.choices]
    if rows:
        lines += ["| | |", "|---|---|", *rows, ""]
    return "\n".join(lines)


def usage(name: str, parser: Recorder) -> str:
    if parser.usage:
        return parser.usage.replace("[-h] ", "")
    words = ["claude-bottle", name]
    words += [spelled(action)[0] for action in parser.told if action.option_strings and action.required]
    if any(action.option_strings and not action.required for action in parser.told):
        words.append("[OPTIONS]")
    for action in parser.told:
        if not action.option_strings:
            words.append(repeated(value_of(action), action.nargs))
    return " ".join(words)


def repeated(word: str, nargs: int | str | None) -> str:
    forms = {"?": f"[{word}]", "+": f"{word} ...", "*": f"[{word} ...]"}
    return forms.get(nargs, word) if isinstance(nargs, str) else word


def row(action: argparse.Action) -> str:
    words = spelled(action) if action.option_strings else [value_of(action)]
    choices = ", ".join(map(str, action.choices or ()))
    meaning = "; ".join(text for text in (action.help or "", choices and f"one of: {choices}") if text)
    return f"| {', '.join(f'`{word}`' for word in words)} | {cell(meaning)} |"


def cell(text: str) -> str:
    """Text in a table of Markdown, which takes `<` for the start of a tag."""
    return text.replace("<", "&lt;").replace("|", "\\|")


def spelled(action: argparse.Action) -> list[str]:
    """An option in each of its forms, with its value where it takes one."""
    value = "" if action.nargs == 0 else f" {value_of(action)}"
    return [f"{flag}{value}" for flag in action.option_strings]


def value_of(action: argparse.Action) -> str:
    return action.metavar if isinstance(action.metavar, str) else action.dest.upper()


def main(arguments: list[str]) -> int:
    made = page()
    if arguments == ["--check"]:
        current = PAGE.exists() and PAGE.read_text(encoding="utf-8") == made
        if not current:
            sys.stderr.write("docs/cli.md is not what the commands say: run script/docs\n")
        return 0 if current else 1
    if arguments:
        sys.stderr.write("usage: script/docs [--check]\n")
        return 2
    PAGE.write_text(made, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
