"""What `list --json` says of the one agent that runs, and a program that speaks as Claude Code does."""

from __future__ import annotations

from typing import Any

from tests.support.e2e import Cli, eventually

# For bash: the file that Claude Code would write of itself, and then nothing more.
SPEAK = (
    "mkdir -p ~/.claude/sessions; cd ~/.claude/sessions; set -- $(sed 's/.*)//' /proc/$$/stat); "
    'printf \'{"procStart": "%s", "status": "waiting", "waitingFor": "dialog open"}\' ${20} > $$.json; '
    "echo up; exec sleep 300"
)


def row(cli: Cli) -> dict[str, Any]:
    (found,) = cli("list", "--json").ok().json["active"]
    assert isinstance(found, dict)
    return found


def becomes(cli: Cli, status: str, waiting_for: str | None = None) -> dict[str, Any]:
    """The row, once its status is this."""
    seen: list[dict[str, Any]] = []

    def arrived() -> bool:
        seen.append(row(cli))
        return (seen[-1]["status"], seen[-1]["waiting_for"]) == (status, waiting_for)

    eventually(arrived, lambda: f"{status} never came, but {seen[-1]}")
    return seen[-1]
