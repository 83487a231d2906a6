"""`start` as a person sees it: a preflight, a y, Claude Code without a question, and the terminal back at the end."""

from __future__ import annotations

import os
import signal
from functools import partial

import pytest

from claude_bottle.scripted.server import ScriptedModel
from tests.support.e2e import Cli, bash, eventually, scripted
from tests.support.e2e_terminal import Terminal

pytestmark = pytest.mark.needs("envoy", "claude", "tmux")


def prompt_box(screen: str) -> bool:
    return "bypass permissions on" in screen


def test_a_session_from_the_preflight_to_the_shells_status(cli: Cli, shell: Terminal) -> None:
    with scripted(
        {
            "prompt": {"contains": "please look"},
            **bash("stty size </dev/tty 2>&1 || true; echo '# mine' >> adder.py"),
        },
        {"say": "I have looked and left my mark."},
    ) as model:
        cli.manifest(model.url, prompt="You are the purple one.")
        before = shell.say("stty -g")
        shell.enter(f'claude-bottle start {cli.agent}; echo "status=$?"')
        preflight = shell.see("Start it? [y/N]")
        for words in (
            f"{cli.agent} in bottle dev, as {cli.agent}-",
            cli.backend,
            f"clone of {cli.project}",
            "api.anthropic.com",
            "nothing else",
            "kernel exploit",
        ):
            assert words in preflight
        assert cli.slugs() == []
        shell.enter("y")
        eventually(lambda: prompt_box(shell.screen), lambda: shell.screen)
        (slug,) = cli.slugs()

        shell.resize(90, 40)
        eventually(
            lambda: "\n" + "─" * 90 + "\n" in shell.screen, lambda: shell.screen
        )  # Claude's box, drawn anew

        shell.type("please look")
        shell.press("Enter")
        shell.see("I have looked and left my mark.")
        shell.press("C-c")
        shell.see("Press Ctrl-C again to exit")
        shell.press("C-c")
        shell.see("status=0", f"refs/bottles/{slug}/uncommitted")
        after = shell.say("stty -g")
    assert (model.failures, model.finished) == ((), True)
    assert any("You are the purple one." in str(request.body) for request in model.requests)
    assert after == before
    assert cli.git("show", f"refs/bottles/{slug}/uncommitted:adder.py").endswith("# mine")
    assert (cli.slugs(), cli.preserved()) == ([], [])


def test_no_means_no(cli: Cli, shell: Terminal, idle: ScriptedModel) -> None:
    cli.manifest(idle.url)
    for number, answer in enumerate(("n", "", "yess", "Y es")):
        shell.press("C-l")
        shell.tmux("clear-history")
        mark = f"was answer {number}"
        shell.enter(f'claude-bottle start {cli.agent}; echo "$? {mark}"')
        shell.see("Start it? [y/N]")
        shell.enter(answer)
        shell.see(f"0 {mark}")
        assert (cli.slugs(), cli.preserved()) == ([], [])


def asked(shell: Terminal, times: int) -> bool:
    return shell.screen.count("Start it? [y/N]") == times


def test_an_end_of_input_or_ctrl_c_at_the_question_is_no_too(
    cli: Cli, shell: Terminal, idle: ScriptedModel
) -> None:
    cli.manifest(idle.url)
    for times, (key, status) in enumerate((("C-d", 0), ("C-c", 130)), 1):
        shell.enter(f'claude-bottle start {cli.agent}; echo "status=$?"')
        eventually(partial(asked, shell, times), lambda: shell.screen)
        shell.press(key)
        assert "Traceback" not in shell.see(f"status={status}")
        assert (cli.slugs(), cli.preserved()) == ([], [])


def test_a_start_that_is_told_to_end_gives_the_terminal_back_and_the_agent_works_on(
    cli: Cli, shell: Terminal, idle: ScriptedModel
) -> None:
    cli.manifest(idle.url)
    before = shell.say("stty -g")
    shell.enter(f'claude-bottle start {cli.agent} --yes; echo "status=$?"')
    eventually(lambda: prompt_box(shell.screen), lambda: shell.screen)
    (slug,) = cli.slugs()
    (starting,) = cli.processes(f"start {cli.agent} --yes")
    os.kill(starting, signal.SIGTERM)
    shell.see("status=143", f"{slug} works on")
    assert shell.say("stty -g") == before
    assert (cli.slugs(), cli.preserved()) == ([slug], [])


def test_exec_gives_a_terminal_of_the_bottles_own(cli: Cli, shell: Terminal, idle: ScriptedModel) -> None:
    cli.manifest(idle.url)
    slug = cli.start()
    before = shell.say("stty -g")
    shell.enter(f'claude-bottle exec {slug} -- bash --norc; echo "status=$?"')
    shell.see("node@bottle" if "node@bottle" in shell.screen else "bash-")
    shell.enter("tty; stty size; cat; exit 9")
    shell.see("/dev/pts/", "30 100")
    shell.press("C-c")
    shell.enter("sleep 300")
    shell.press("C-c")
    shell.enter("echo still-$((40 + 2)); exit 9")
    shell.see("still-42", "status=9")
    assert shell.say("stty -g") == before
    assert shell.say(f"claude-bottle exec -T {slug} -- tty").strip() == "not a tty"


def test_a_value_is_asked_for_without_an_echo_and_only_the_bottle_gets_it(
    cli: Cli, shell: Terminal, idle: ScriptedModel
) -> None:
    cli.manifest(idle.url, bottle='env:\n  PASSPHRASE: "?What is the passphrase?"\n  TICKET: "?"\n')
    shell.enter(f'claude-bottle start {cli.agent} --yes --detach; echo "status=$?"')
    shell.see("What is the passphrase?")
    shell.enter("a secret of mine")
    shell.see("TICKET")
    shell.enter("ticket-77")
    shell.see("status=0")
    assert "a secret of mine" not in shell.screen
    assert "PASSPHRASE asked: it DOES enter the bottle" in shell.screen
    (slug,) = cli.slugs()
    assert cli.inside(slug, 'echo "$PASSPHRASE|$TICKET"').text == "a secret of mine|ticket-77\n"
    stored = [
        path for path in cli.root.rglob("*") if path.is_file() and b"a secret of mine" in path.read_bytes()
    ]
    assert stored == []
    assert not any("a secret of mine" in line for line in cli.leftovers())


def test_lists_and_logs_on_a_terminal_are_safe_to_look_at(
    cli: Cli, shell: Terminal, idle: ScriptedModel
) -> None:
    cli.manifest(idle.url)
    slug = cli.start()
    hostile = (
        r"printf 'x\033]2;owned\007\033[31m\n' > 'evil\033]2;owned\007.txt'; git add -A; git commit -qm evil"
    )
    cli.inside(slug, hostile).ok()
    shell.tmux("set-option", "-g", "set-titles", "on")
    shell.say(f"claude-bottle diff {slug}; claude-bottle pull {slug}; claude-bottle logs {slug}")
    assert "owned" not in shell.tmux("display-message", "-p", "#{pane_title}")
    assert "\\x1b]2;owned\\x07" in shell.screen
