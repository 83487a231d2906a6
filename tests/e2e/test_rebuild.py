"""A capability change end to end: asked for, approved, there, and the conversation goes on by itself."""

from __future__ import annotations

import json
import secrets
import signal
import subprocess
from typing import Any

import pytest

from claude_bottle.scripted.server import ScriptedModel
from tests.support.e2e import Cli, bash, eventually, scripted
from tests.support.e2e_asking import asking, waiting
from tests.support.e2e_terminal import Terminal, enter_claude

pytestmark = [
    pytest.mark.needs("envoy", "claude", "docker"),
    pytest.mark.backends("docker"),
]


ADDED = f"RUN echo mine > /etc/added # {secrets.token_hex(4)}"  # built once in a run of these tests


def begin(cli: Cli, shell: Terminal) -> str:
    """Claude at work in a terminal of its own, on the first turn; its bottle."""
    enter_claude(shell, f"claude-bottle start {cli.agent} --yes")
    (slug,) = cli.slugs()
    shell.type("please")
    shell.see("please")
    shell.press("Enter")
    return slug


def leave(shell: Terminal) -> None:
    shell.press("C-c")
    shell.see("Press Ctrl-C again to exit")
    shell.press("C-c")
    shell.see("status=0")


@pytest.mark.needs("tmux")
def test_a_missing_tool_is_asked_for_and_the_conversation_goes_on(cli: Cli, shell: Terminal) -> None:
    with scripted(
        {"prompt": {"contains": "please"}, **asking("capability-block", packages=["tree"])},
        {"expect": [{"contains": "approved"}], "say": "I wait for it."},
        {"prompt": {"contains": "was rebuilt with packages tree"}, **bash("tree --version; cat left")},
        {"expect": [{"contains": ["tree v", "mine"]}], "say": "It is there now."},
    ) as model:
        cli.manifest(model.url)
        slug = begin(cli, shell)
        ident = waiting(cli)
        assert cli.inside(slug, "command -v tree").status != 0
        cli.inside(slug, "echo mine > left").ok()
        assert "scripts run as root in the image" in cli("proposals", "show", ident).ok().text
        done = cli("proposals", "approve", ident, timeout=600).ok()
        assert f"{slug} has packages tree, and its agent goes on" in done.talk
        shell.see("It is there now.")
        assert (model.failures, model.finished) == ((), True)
        assert cli.slugs() == [slug]
        assert not (cli.state / slug / "preserved.json").exists()
        assert not (cli.state / slug / "rebuild.json").exists()
        leave(shell)
    assert (cli.slugs(), cli.preserved()) == ([], [])


def test_what_was_added_and_decided_is_there_afterwards_and_is_shown(cli: Cli, idle: ScriptedModel) -> None:
    cli.repository()
    cli.manifest(idle.url)
    (bottle,) = (cli.home / "bottles").iterdir()
    routes = "  allowlist: [kept.example.org, taken.example.org]\n---\n"
    bottle.write_text(bottle.read_text().removesuffix("---\n") + routes)
    slug = cli.start()
    cli("allowlist", "add", slug, "granted.example.org").ok()
    cli("allowlist", "remove", slug, "taken.example.org").ok()
    rebuild(cli, slug, ADDED).ok()
    hosts = [row[0].split()[0] for row in cli("allowlist", "show", slug).ok().rows]
    assert hosts == ["kept.example.org", "granted.example.org"]
    assert cli.inside(slug, "cat /etc/added").ok().text == "mine\n"
    cli("stop", slug).ok()
    again = cli("resume", slug, "--detach", "--yes").ok()
    assert "added      RUN echo mine" in again.talk
    assert "changed" not in again.talk
    assert cli.inside(slug, "cat /etc/added").ok().text == "mine\n"


DRIVER = """
import os, sys
sys.path[:0] = {path!r}
from pathlib import Path
from claude_bottle.operations import rebuild as module
from claude_bottle.operations.context import system_context
from claude_bottle.errors import BottleError
slug, lines, fault = sys.argv[1:]
{patch}
context = system_context()
try:
    planned = module.build(context, slug, (), lines, lambda *_: None, lambda question: "")
    print("built", flush=True)
    found = module.rebuild(context, planned, "d-test", lambda *_: None)
    print(found.additions.dockerfile, *found.problems)
except BottleError as error:
    print(error.message, error.hint, file=sys.stderr)
    sys.exit(error.exit_code)
"""

# Faults at each place where one may come, in the process that rebuilds.
PLACES = {
    "": "",
    "noted": "step = module._await_told\nmodule._await_told = lambda *a: end()",
    "stopped": "module.resuming.again = lambda *a: end()",
    "proved": "step = module.resuming._keep_additions\nmodule.resuming._keep_additions = lambda p: (step(p), end())",
    "launched": "module._carry_over = lambda *a: end()",
    "told": "module._go_on = lambda *a: end()",
}
KILL = "def end(): os.kill(os.getpid(), 9)\n"
FAIL_ONCE = """
again, left = module.resuming.again, [1]
def failing(*a):
    if left:
        left.pop()
        raise BottleError("the planted fault")
    return again(*a)
module.resuming.again = failing
"""


def rebuild(cli: Cli, slug: str, lines: str, patch: str = "") -> Any:
    """By the service layer, in a process of its own."""
    import sysconfig

    from tests.support.e2e import ROOT, Done

    path = [str(ROOT), sysconfig.get_path("platlib")]
    script = DRIVER.format(path=path, patch=patch)
    done = subprocess.run(
        [cli.command[0], "-I", "-c", script, slug, lines, ""],
        env=cli.env,
        cwd=cli.project,
        capture_output=True,
        timeout=600,
        check=False,
    )
    return Done(done.returncode, done.stdout, done.stderr)


def test_a_build_that_fails_leaves_the_bottle_alone(cli: Cli, idle: ScriptedModel) -> None:
    cli.repository()
    cli.manifest(idle.url)
    slug = cli.start()
    before = cli.container_ids()
    cli.inside(slug, "(sleep 1000 &) ; echo '# open' >> adder.py").ok()
    rebuild(cli, slug, f"RUN echo the-reason-why && false # {cli.agent}").failed(
        1, "cannot be built", "the-reason-why"
    )
    assert cli.container_ids() == before
    cli.inside(slug, "pgrep sleep").ok()
    assert not (cli.state / slug / "rebuild.json").exists()
    assert not (cli.state / slug / "additions.json").exists()


def test_a_failure_after_the_stop_brings_the_old_bottle_back(cli: Cli, idle: ScriptedModel) -> None:
    cli.repository()
    cli.manifest(idle.url)
    slug = cli.start()
    cli.inside(slug, "echo '# open' >> adder.py").ok()
    done = rebuild(cli, slug, ADDED, FAIL_ONCE)
    assert done.status == 1
    assert f"{slug} was not rebuilt, and goes on as it was before: the planted fault" in done.talk
    assert cli.slugs() == [slug]
    assert cli.inside(slug, "tail -1 adder.py; ls /etc/added 2>&1").text.startswith("# open\n")
    assert cli.inside(slug, "test -e /etc/added").status != 0
    for name in ("rebuild.json", "additions.json", "preserved.json"):
        assert not (cli.state / slug / name).exists()


@pytest.mark.parametrize("place", [place for place in PLACES if place])
def test_a_rebuild_that_is_killed_can_be_resumed(cli: Cli, idle: ScriptedModel, place: str) -> None:
    cli.repository()
    cli.manifest(idle.url)
    slug = cli.start()
    cli.inside(slug, "echo '# open' >> adder.py").ok()
    done = rebuild(cli, slug, ADDED, KILL + PLACES[place])
    assert done.status == -signal.SIGKILL, done.everything
    if place in ("noted", "launched", "told"):
        assert cli.slugs() == [slug]
        cli("stop", slug).ok()
    eventually(lambda: cli.slugs() == [])
    again = cli("resume", slug, "--detach", "--yes").ok()
    has = place in ("proved", "launched", "told")
    assert ("was being rebuilt with RUN echo mine" in again.talk) is (place != "told")
    assert ("comes back as it was before" in again.talk) is (place in ("noted", "stopped"))
    assert (cli.inside(slug, "test -e /etc/added").status == 0) is has
    assert cli.inside(slug, "tail -1 adder.py").ok().text == "# open\n"
    assert not (cli.state / slug / "rebuild.json").exists()
    added = cli.state / slug / "additions.json"
    assert json.loads(added.read_text())["additions"]["packages"] == [] if has else not added.exists()


def test_lines_that_are_no_run_are_refused(cli: Cli, idle: ScriptedModel) -> None:
    cli.repository()
    cli.manifest(idle.url)
    slug = cli.start()
    rebuild(cli, slug, "FROM evil").failed(2, "only RUN")


def test_a_manifest_that_says_more_by_now_is_not_slipped_in(cli: Cli, idle: ScriptedModel) -> None:
    cli.repository()
    cli.manifest(idle.url)
    slug = cli.start()
    cli.manifest(idle.url, bottle="env: {MORE: more}\n")
    done = rebuild(cli, slug, "RUN true")
    done.failed(1, "the manifest has changed", "MORE")
    assert cli.slugs() == [slug]
