"""`list --json` and `list --watch` beside the real Claude Code, and beside state that is broken or hostile."""

from __future__ import annotations

import json
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from claude_bottle.scripted.server import ScriptedModel
from tests.support.e2e import PATIENCE, Cli, bash, eventually, scripted
from tests.support.e2e_status import SPEAK, becomes, row
from tests.support.e2e_terminal import Terminal, choose, command_line, terminal

pytestmark = pytest.mark.needs("envoy", "claude")

CHOICE = {
    "question": "Which colour?",
    "header": "Colour",
    "multiSelect": False,
    "options": [{"label": "red", "description": "warm"}, {"label": "blue", "description": "cold"}],
}


@pytest.mark.needs("tmux")
def test_what_the_real_claude_code_does_is_seen_from_outside(cli: Cli) -> None:
    """Its session file is not documented: whoever changes the pinned version learns here what became of it."""
    cli.repository()
    before = time.time()
    with scripted(
        {"prompt": {"contains": "please work"}, **bash("while [ ! -e /tmp/enough ]; do sleep 0.1; done")},
        {"tools": [{"name": "AskUserQuestion", "input": {"questions": [CHOICE]}}]},
        {"say": "Thank you for the colour."},
    ) as model:
        cli.manifest(model.url)
        slug = cli.start()
        assert row(cli)["status"] == "idle"
        with terminal(cli) as shell:
            claude = ("claude", "--dangerously-skip-permissions")
            shell.enter(command_line(cli, "exec", "-t", slug, "--", *claude))
            eventually(lambda: "bypass permissions on" in shell.screen, lambda: shell.screen)
            found = becomes(cli, "idle")
            eventually(lambda: row(cli)["since"] is not None)
            assert found["memory"] > 50 << 20
            shell.type("please work")
            shell.press("Enter")
            assert becomes(cli, "working")["since"] > before
            cli.inside(slug, "touch /tmp/enough").ok()
            becomes(cli, "waiting for input", "input needed")
            shell.see("Which colour?")
            choose(shell, "Thank you for the colour.")
            becomes(cli, "idle")
            ended(cli, slug, shell)
    assert (model.failures, model.finished) == ((), True)


def ended(cli: Cli, slug: str, shell: Terminal) -> None:
    cli.kill_claude(slug)
    found = becomes(cli, "exited")
    assert (found["since"], found["services"]) == (None, ["egress", "firewall", "supervise"])
    shell.press("C-l")


def test_headless_claude_code_works(cli: Cli) -> None:
    cli.repository()
    with scripted(bash("while [ ! -e /tmp/enough ]; do sleep 0.1; done"), {"say": "Done."}) as model:
        cli.manifest(model.url)
        with cli.begun("run", cli.agent, "-p", "Go", "--yes") as running:
            eventually(lambda: cli.slugs() != [])
            becomes(cli, "working")
            cli.inside(cli.slugs()[0], "touch /tmp/enough").ok()
            running.communicate()
    assert running.returncode == 0
    assert cli("list", "--json").ok().json["active"] == []


def test_what_an_agent_does_is_seen_by_any_operator(anyone: Cli, idle: ScriptedModel) -> None:
    """An ordinary user sees his own bottles' processes, and what they take."""
    cli = anyone
    cli.repository()
    cli.manifest(idle.url)
    slug = cli.start()
    with cli.begun("exec", slug, "--", "bash", "-c", SPEAK) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"up\n"
        found = becomes(cli, "waiting for input", "dialog open")
        assert found["memory"] > 0
    becomes(cli, "exited")
    cli("stop", slug).ok()


# Hostile and broken


def test_no_name_can_break_a_row(ready: Cli) -> None:
    """Metadata is the operator's own, yet a row of it holds whatever somebody wrote there."""
    slug = ready.start()
    hostile = "a\tb\nc\r\x1b]2;owned\x07\u202e\u2028d"
    fields = {"agent": hostile, "bottle": hostile, "branch": hostile, "origin": hostile}
    with kept(ready.state / slug / "metadata.json") as file:
        file.write_text(json.dumps({**json.loads(file.read_text()), **fields}))
        listed, as_json = ready("list").ok(), ready("list", "--json").ok()
    ((backend, shown, agent, services),) = listed.rows
    assert (backend, shown, services) == (ready.backend, slug, "egress,firewall,supervise")
    assert agent.startswith("a\\x09b\\x0ac\\x0d\\x1b]2;owned")
    assert as_json.text.count("\n") == 1
    assert not set("\t\r\x1b\x07\u202e\u2028") & set(as_json.text)
    assert as_json.json["active"][0]["branch"] == hostile


BROKEN = (
    *("garbage", "", "{}", '{"schema": 99}', '{"schema": 1}', "[" * 100_000, "\x00\xff"),
    '{"schema": 1, "created": 1e999}',
)


def test_a_running_bottle_whose_state_is_broken_is_a_row_that_says_so(ready: Cli) -> None:
    slug = ready.start()
    with kept(ready.state / slug / "metadata.json") as file:
        for text in BROKEN:
            file.write_text(text)
            listed = ready("list", "--json").ok()
            (found,) = listed.json["active"]
            assert (found["slug"], found["agent"], found["branch"]) == (slug, "-", None), text
            assert (found["status"], slug in listed.talk) == ("idle", True), text


def test_a_start_that_cannot_have_been_breaks_no_list(ready: Cli) -> None:
    slug = ready.start()
    with kept(ready.state / slug / "metadata.json") as file:
        good = json.loads(file.read_text())
        for created in ("1e999", "-1", "NaN", "true", "9" * 4000, '"now"'):
            file.write_text(json.dumps({**good, "created": "HERE"}).replace('"HERE"', created))
            listed = ready("list", "--json").ok()
            found = json.loads(listed.out, parse_constant=lambda word: pytest.fail(f"{word} is no JSON"))
            assert (found["active"][0]["slug"], slug in listed.talk) == (slug, True), created


@contextmanager
def kept(file: Path) -> Iterator[Path]:
    """A file that is whole again afterwards."""
    good = file.read_text()
    try:
        yield file
    finally:
        file.write_text(good)


def test_a_preserved_row_has_all_that_is_known(ready: Cli) -> None:
    slug = ready.start()
    ready("stop", slug).ok()
    (found,) = ready("list", "preserved", "--json").ok().json["preserved"]
    assert 0 < found.pop("started_at") < found.pop("since")
    assert found == {
        "backend": ready.backend,
        "slug": slug,
        "agent": ready.agent,
        "bottle": "dev",
        "why": "stopped",
        "workspace": "clone",
        "origin": str(ready.project),
        "branch": f"bottle/{slug}",
    }


# Watched


@pytest.fixture
def watching(ready: Cli) -> Iterator[subprocess.Popen[bytes]]:
    with ready.begun("list", "--watch", "--plain") as process:
        yield process


def lines_of(process: subprocess.Popen[bytes], count: int) -> list[list[str]]:
    """The next lines, without their times."""
    assert process.stdout is not None
    lines = [process.stdout.readline().decode().rstrip("\n").split("\t") for _ in range(count)]
    assert all(len(line[0]) == len("12:34:56") for line in lines), lines
    return [line[1:] for line in lines]


def test_a_watch_tells_each_change_on_a_line_and_ends_with_ctrl_c(
    ready: Cli, watching: subprocess.Popen[bytes]
) -> None:
    slug = ready.start()
    told = lines_of(watching, 1)
    while told[-1][-1] != "idle":  # it may have been seen while it came up
        told += lines_of(watching, 1)
    assert told[-1] == [ready.backend, slug, ready.agent, "egress,firewall,supervise", "idle"]
    ready("stop", slug).ok()
    while told[-1][-1] != "gone":
        told += lines_of(watching, 1)
    assert {line[1] for line in told} == {slug}
    watching.send_signal(signal.SIGINT)
    out, talk = watching.communicate(timeout=PATIENCE)
    assert (watching.returncode, out) == (130, b"")
    assert b"Traceback" not in talk
    assert b"\x1b" not in talk


def test_a_watch_whose_reader_has_gone_ends(ready: Cli) -> None:
    with ready.begun("list", "--watch") as process:
        assert process.stdout is not None
        process.stdout.close()
        slug = ready.start()
        assert process.wait(PATIENCE) == 1
    ready("stop", slug).ok()


def test_a_watch_as_json_is_an_object_for_each_change(ready: Cli) -> None:
    with ready.begun("list", "--watch", "--json") as process:
        assert process.stdout is not None
        assert json.loads(process.stdout.readline()) == {"schema": 1, "active": [], "warnings": []}
        slug = ready.start()
        (found,) = json.loads(process.stdout.readline())["active"]
        assert found["slug"] == slug


@pytest.mark.needs("tmux")
def test_a_watch_on_a_terminal_is_drawn_in_its_place(ready: Cli) -> None:
    slug = ready.start()
    with terminal(ready) as shell:
        before = shell.say("stty -g")
        shell.enter(f"clear; {command_line(ready, 'list', '--watch')}; echo status=$?")
        shell.see("BACKEND", slug, "idle")
        second = ready.start()
        shell.see(second)
        assert shell.screen.count(slug) == 1, shell.screen
        ready("stop", second).ok()
        eventually(lambda: second not in shell.screen, lambda: shell.screen)
        shell.press("C-c")
        shell.see("status=130")
        assert shell.say("stty -g") == before


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("preserved", "--watch"), "not preserved"),
        (("agents", "--watch", "--plain"), "not agents"),
        (("--plain",), "--plain goes with --watch"),
    ],
)
def test_a_watch_of_anything_else_is_refused(cli: Cli, options: tuple[str, ...], words: str) -> None:
    cli("list", *options).failed(2, words)


@pytest.mark.backends("bubblewrap")
def test_a_plain_list_loads_nothing_of_all_this(ready: Cli) -> None:
    """It is what people and scripts run all day."""
    slug = ready.start()
    code = (
        "import sys; sys.argv[1:] = ['list']\n"
        "from claude_bottle.cli import main\n"
        "status = main()\n"
        "heavy = ('sessions', 'processes', 'observed', 'status', 'watch', 'watching', 'look', 'tarfile', 'asyncio')\n"
        "print([name for name in sys.modules if name.rpartition('.')[2] in heavy], file=sys.stderr)\n"
        "sys.exit(status)\n"
    )
    *start, main = ready.command
    prefix = main.partition("from claude_bottle")[0]
    done = subprocess.run(
        [*start, prefix + code], capture_output=True, text=True, cwd=ready.project, env=ready.env, check=True
    )
    assert slug in done.stdout
    assert done.stderr.splitlines()[-1] == "[]"
