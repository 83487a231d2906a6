"""An agent outlives every terminal that looks at it; real Claude Code, real tmux, on every backend."""

from __future__ import annotations

import os
import re
import signal
from pathlib import Path

import pytest

from claude_bottle.scripted.server import ScriptedModel
from claude_bottle.state import store
from claude_bottle.state.paths import BottlePaths
from tests.support.e2e import Cli, bash, eventually, scripted
from tests.support.e2e_terminal import (
    READY,
    Terminal,
    ask,
    await_written,
    enter_claude,
    leave_claude,
    terminal,
)

pytestmark = [pytest.mark.needs("envoy", "claude", "tmux"), pytest.mark.usefixtures("with_command")]


def flag(shell: Terminal, name: str) -> str:
    return shell.tmux("display-message", "-p", f"#{{{name}}}").strip()


def holders(cli: Cli) -> list[str]:
    return [str(pid) for pid in cli.processes("claude_bottle.cli.holder")]


def holder(cli: Cli) -> int:
    (found,) = holders(cli)
    return int(found)


def claudes(cli: Cli, slug: str) -> list[str]:
    """The processes in the bottle that are claude, by number."""
    script = "for p in /proc/[0-9]*; do readlink $p/exe | grep -q /claude && echo ${p#/proc/}; done; true"
    return cli.inside(slug, script).ok().text.split()


def said(model: ScriptedModel, words: str) -> bool:
    return words in str(model.requests[-1].body)


def test_an_agent_outlives_its_terminal_and_goes_on_in_another(cli: Cli) -> None:
    with scripted(
        {"prompt": {"contains": "remember purple"}, "say": "The first answer."},
        {"prompt": {"contains": "and now"}, "say": "The second answer."},
    ) as model:
        cli.manifest(model.url)
        with terminal(cli, name="first") as first:
            enter_claude(first, f"claude-bottle start {cli.agent} --yes")
            ask(first, "remember purple", "The first answer.")
            (slug,) = cli.slugs()
            first.tmux("kill-pane")
        eventually(lambda: not cli.processes(f"start {cli.agent}"))
        assert cli.slugs() == [slug]
        with terminal(cli, name="second") as second:
            enter_claude(second, f"claude-bottle attach {slug}")
            second.see("remember purple", "The first answer.")
            (attached,) = cli.processes(f"attach {slug}")
            os.kill(attached, signal.SIGKILL)
            second.see("Killed")
            second.enter("reset")  # nobody could give it back
            assert cli.slugs() == [slug]
            enter_claude(second, f"claude-bottle attach {slug}")
            second.see("The first answer.")
            ask(second, "and now", "The second answer.")
            leave_claude(second)
            second.see("status=0")
        assert (model.failures, model.finished) == ((), True)
        assert said(model, "remember purple")
    assert (cli.slugs(), cli.preserved()) == ([], [])
    assert holders(cli) == []


def test_two_terminals_see_and_type_the_same_and_the_last_to_be_resized_decides(cli: Cli) -> None:
    cli.more["COLORTERM"] = "truecolor"
    with scripted({"say": "One answer for two."}) as model:
        cli.manifest(model.url)
        with terminal(cli) as shell, terminal(cli, name="other") as other:
            enter_claude(shell, f"claude-bottle start {cli.agent} --yes")
            (slug,) = cli.slugs()
            enter_claude(other, f"claude-bottle attach {slug}")
            other.type("from the ")
            shell.see("from the ")
            ask(shell, "two of us", "One answer for two.")
            other.see("from the two of us", "One answer for two.")
            for one, columns in ((other, 110), (shell, 120)):  # tmux itself would make a line shorter
                one.resize(columns, 25)
                eventually(lambda o=one, n=columns: f"\n{'─' * n}\n" in o.screen)
            assert other.tmux("capture-pane", "-p", "-e").count("38;2;") > 3
            other.press("C-\\")
            other.see("status=0", f"claude-bottle attach {slug}")
            assert f"\n{'─' * 120}\n" in shell.screen
            assert len(claudes(cli, slug)) == 1
            leave_claude(shell)
            shell.see("status=0")
    assert cli.slugs() == []


def test_the_terminal_is_whole_and_is_given_back(cli: Cli, shell: Terminal, idle: ScriptedModel) -> None:
    cli.manifest(idle.url)
    before = shell.say("stty -g")
    enter_claude(shell, f"claude-bottle start {cli.agent} --yes")
    (slug,) = cli.slugs()
    eventually(lambda: flag(shell, "mouse_any_flag") == "1")
    shell.press("C-\\")
    shell.see("status=0", f"detached from {slug}")
    assert (flag(shell, "mouse_any_flag"), flag(shell, "alternate_on")) == ("0", "0")
    assert shell.say("stty -g") == before

    enter_claude(shell, f"claude-bottle attach {slug}")
    eventually(lambda: (flag(shell, "mouse_any_flag"), flag(shell, "alternate_on")) == ("1", "1"))
    shell.tmux("set-buffer", "line one\nline two \x1a\x1c end")
    shell.tmux("paste-buffer", "-p")  # in brackets, where they were asked for
    shell.see("line one", "line two")
    assert "status=" not in shell.screen  # nothing of it was a key

    shell.press("C-z")
    shell.see("Stopped")
    assert (flag(shell, "mouse_any_flag"), flag(shell, "alternate_on")) == ("0", "0")
    assert shell.say("stty -g") == before
    shell.enter('fg; echo "status=$?"')
    shell.see(READY, "line one")
    assert "Claude" not in flag(shell, "pane_title")
    leave_claude_busy(shell)
    assert shell.say("stty -g") == before
    assert (cli.slugs(), cli.preserved()) == ([], [])


def leave_claude_busy(shell: Terminal) -> None:
    """Where there is something on the input line, which the first key takes away, and does not always count."""

    def left() -> bool:
        if flag(shell, "alternate_on") == "1":
            shell.press("C-c")
        return "status=0" in shell.screen

    eventually(left, lambda: shell.screen)


def test_a_claude_that_is_killed_gives_its_status_and_what_was_preserved(cli: Cli, shell: Terminal) -> None:
    with scripted(
        {"prompt": {"contains": "work"}, **bash("echo '# mine' >> adder.py")}, {"say": "Done so far."}
    ) as model:
        cli.manifest(model.url)
        enter_claude(shell, f"claude-bottle start {cli.agent} --yes")
        (slug,) = cli.slugs()
        ask(shell, "work", "Done so far.")
        (claude,) = claudes(cli, slug)
        cli.inside(slug, f"kill -9 {claude}").ok()
        shell.see("status=137", f"the state of {slug} is preserved", f"refs/bottles/{slug}/uncommitted")
    assert (cli.slugs(), cli.preserved()) == ([], [slug])
    assert (flag(shell, "mouse_any_flag"), flag(shell, "alternate_on")) == ("0", "0")


def test_nobody_has_to_be_attached_when_claude_ends(cli: Cli, shell: Terminal) -> None:
    with scripted(
        {"prompt": {"contains": "work"}, **bash("echo '# mine' >> adder.py")}, {"say": "Done."}
    ) as model:
        cli.manifest(model.url)
        enter_claude(shell, f"claude-bottle start {cli.agent} --yes")
        (slug,) = cli.slugs()
        ask(shell, "work", "Done.")
        shell.press("C-\\")
        shell.see("status=0")
        (claude,) = claudes(cli, slug)
        cli.inside(slug, f"kill -INT {claude}")
        eventually(lambda: cli.slugs() == [], lambda: str(cli.leftovers()))
        eventually(lambda: not holders(cli))
    assert cli.git("show", f"refs/bottles/{slug}/uncommitted:adder.py").endswith("# mine")


def test_a_stop_ends_every_attached_terminal(cli: Cli, shell: Terminal, idle: ScriptedModel) -> None:
    cli.manifest(idle.url)
    before = shell.say("stty -g")
    slug = cli.start()
    enter_claude(shell, f"claude-bottle attach {slug}")
    cli("stop", slug).ok()
    shell.see("status=143", f"{slug} was stopped, or has died", "is preserved")
    assert shell.say("stty -g") == before
    assert (cli.slugs(), cli.preserved()) == ([], [slug])
    eventually(lambda: not holders(cli))
    screen = shell.say(f'claude-bottle attach {slug}; echo "status=$?"')
    assert "is not running" in screen
    assert "status=1" in screen


def test_a_holder_that_is_killed_takes_only_claude_along_and_the_next_continues(
    cli: Cli, shell: Terminal
) -> None:
    with scripted(
        {"prompt": {"contains": "remember purple"}, "say": "The first answer."},
        {"prompt": {"contains": "and now"}, "say": "The second answer."},
    ) as model:
        cli.manifest(model.url)
        slug = cli.start()
        enter_claude(shell, f"claude-bottle attach {slug}")
        os.kill(holder(cli), signal.SIGKILL)  # nothing was said: there is nothing to continue
        shell.see("status=1", f"the terminal of {slug} is gone")
        eventually(lambda: claudes(cli, slug) == [])
        enter_claude(shell, f"claude-bottle attach {slug}")
        ask(shell, "remember purple", "The first answer.")
        await_written(cli, slug, "The first answer.")
        os.kill(holder(cli), signal.SIGKILL)
        shell.see("status=1")
        assert cli.slugs() == [slug]
        eventually(lambda: claudes(cli, slug) == [])
        enter_claude(shell, f"claude-bottle attach {slug}")
        shell.see("remember purple", "The first answer.")
        ask(shell, "and now", "The second answer.")
        assert said(model, "remember purple")
        leave_claude(shell)
        shell.see("status=0")
        assert (model.failures, model.finished) == ((), True)
    assert (cli.slugs(), cli.preserved()) == ([], [])


def test_attaches_at_once_start_one_claude(cli: Cli, shell: Terminal, idle: ScriptedModel) -> None:
    cli.manifest(idle.url)
    slug = cli.start()
    with terminal(cli, name="other") as other:
        for one in (shell, other):
            one.enter(f'claude-bottle attach {slug}; echo "status=$?"')
        for one in (shell, other):
            one.see(READY)
        assert len(holders(cli)) == 1
        assert len(claudes(cli, slug)) == 1
        leave_claude(other)
        for one in (shell, other):
            one.see("status=0")
    assert (cli.slugs(), cli.preserved()) == ([], [])


def test_nothing_runs_in_a_bottle_before_its_launch_has_proved_it(
    cli: Cli, shell: Terminal, idle: ScriptedModel
) -> None:
    cli.manifest(idle.url)
    slug = cli.start()
    with store.locked(BottlePaths(cli.state / slug)):  # as long as it is being launched
        shell.enter(f"claude-bottle attach {slug}")
        waiting = re.compile(r"-> FLOCK +ADVISORY +WRITE +(\d+) ")
        eventually(lambda: {*holders(cli)} & {*waiting.findall(Path("/proc/locks").read_text())} != set())
        assert claudes(cli, slug) == []
    shell.see(READY)


def test_what_cannot_be_attached_to(cli: Cli, shell: Terminal, idle: ScriptedModel) -> None:
    cli.manifest(idle.url)
    slug = cli.start()
    cli("attach", slug).failed(2, "needs a terminal")
    wrong = slug[:-1] + ("a" if slug[-1] != "a" else "b")
    screen = shell.say(f'claude-bottle attach {wrong}; echo "status=$?"')
    assert "status=3" in screen
    assert f"did you mean {slug}?" in screen
    (cli.state / slug / "session" / "claude.json").write_text('{"always": 1}')
    screen = shell.say(f'claude-bottle attach {slug}; echo "status=$?"')
    assert "status=1" in screen
    assert "claude.json cannot be read" in screen
    assert "Traceback" not in screen
    assert claudes(cli, slug) == []
