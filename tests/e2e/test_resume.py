"""`resume`: the same bottle again, with its conversation, its work and its name; and what it refuses."""

from __future__ import annotations

import json
import os

import pytest

from claude_bottle.scripted.server import ScriptedModel
from tests.support.e2e import Cli, bash, eventually, scripted
from tests.support.e2e_terminal import Terminal, await_written

pytestmark = pytest.mark.needs("envoy", "claude")

COMMIT = "git add --all && git commit -qm"
CLAUDE = "claude --dangerously-skip-permissions --print"


@pytest.fixture
def stopped(cli: Cli, idle: ScriptedModel) -> tuple[Cli, str]:
    """A bottle that was stopped, with a commit in it."""
    cli.repository()
    cli.manifest(idle.url)
    slug = cli.start()
    cli.inside(slug, f"echo '# one' >> adder.py; {COMMIT} One; echo '# open' >> adder.py").ok()
    assert f"claude-bottle resume {slug}" in cli("stop", slug).ok().talk
    return cli, slug


def marker(cli: Cli, slug: str) -> str:
    """Why its state is preserved."""
    return str(json.loads((cli.state / slug / "preserved.json").read_text())["why"])


@pytest.mark.needs("tmux")
def test_a_stopped_conversation_goes_on_where_it_was(cli: Cli, shell: Terminal) -> None:
    with scripted(
        {"prompt": {"contains": "the first"}, **bash("echo '# mine' >> adder.py && git commit -qam Mine")},
        {"say": "I have left my mark."},
        {"prompt": {"contains": "the second"}, "say": "It still says that it is mine."},
    ) as model:
        cli.manifest(model.url, prompt="You are the purple one.")
        shell.enter(f'claude-bottle start {cli.agent} --yes; echo "status=$?"')
        shell.see("bypass permissions on")
        (slug,) = cli.slugs()
        shell.type("the first")
        shell.press("Enter")
        shell.see("I have left my mark.")
        await_written(cli, slug, "I have left my mark.")
        cli("stop", slug).ok()
        shell.see("status=")
        assert marker(cli, slug) == "stopped"
        shell.tmux("clear-history")
        shell.enter(f'clear; claude-bottle resume {slug}; echo "status=$?"')
        preflight = shell.see("Start it again? [y/N]")
        assert "as before" in preflight
        assert "changed" not in preflight
        shell.enter("y")
        shell.see("bypass permissions on", "I have left my mark.")
        assert not (cli.state / slug / "preserved.json").exists()
        shell.type("the second")
        shell.press("Enter")
        shell.see("It still says that it is mine.")
        shell.press("C-c")
        shell.see("Press Ctrl-C again to exit")
        shell.press("C-c")
        shell.see("status=0")
    assert (model.failures, model.finished) == ((), True)
    said = str(model.requests[-1].body)
    assert "the first" in said
    assert "You are the purple one." in said
    assert (cli.slugs(), cli.preserved()) == ([], [])
    assert cli.git("log", "-1", "--format=%s", f"refs/bottles/{slug}/heads/bottle/{slug}") == "Mine"
    text = cli("logs", slug, "transcript").ok().text
    assert [text.count(words) for words in ("the first", "the second", "still says that it is mine")] == [
        1,
        1,
        1,
    ]


def test_a_conversation_is_kept_of_a_bottle_that_runs_is_preserved_or_is_gone(cli: Cli) -> None:
    cli.repository()
    with scripted(bash("echo $((40 + 2))"), {"say": "It is 42."}, {"say": "Again."}) as model:
        cli.manifest(model.url)
        slug = cli.start()
        cli.inside(slug, f"{CLAUDE} 'what is it?'").ok()
        running = cli("logs", slug, "transcript").ok().text
        for words in (
            "operator says",
            "what is it?",
            "claude calls Bash: echo $((40 + 2))",
            "    42",
            "It is 42.",
        ):
            assert words in running
        (folder,) = cli("logs", slug, "--capture").ok().text.split()
        assert folder == str(cli.home / "archive" / slug)
        cli("stop", slug).ok()
        assert cli("logs", slug, "transcript").ok().text == running
        assert cli("resume", slug, "--detach", "--yes").ok().text == f"{slug}\n"
        cli.inside(slug, f"{CLAUDE} --continue 'and now?'").ok()
        cli("stop", slug).ok()
    cli("cleanup", "--yes", "--purge", slug).ok()
    assert cli.preserved() == []
    gone = cli("logs", slug, "transcript").ok().text
    assert gone.startswith(running)
    assert "Again." in gone
    lines = [json.loads(line) for line in cli("logs", slug, "transcript", "--json").ok().text.splitlines()]
    assert [line["text"] for line in lines if line["who"] == "claude"][-1] == "Again."
    for service in ("decisions", "requests"):
        assert "api.anthropic.com" in cli("logs", slug, service).ok().text
    cli("logs", f"{slug[:-1]}!", "transcript").failed(3, "there is no bottle", f"did you mean {slug}?")


def test_commits_of_before_and_after_come_back_on_one_branch(stopped: tuple[Cli, str]) -> None:
    cli, slug = stopped
    assert cli("resume", slug, "--detach", "--yes").ok().text == f"{slug}\n"
    assert cli.slugs() == [slug]
    assert (
        cli.inside(slug, "git branch --show-current; git log -1 --format=%s").text == f"bottle/{slug}\nOne\n"
    )
    cli.inside(slug, f"{COMMIT} Two; echo '# three' >> adder.py; {COMMIT} Three").ok()
    assert cli.inside(slug, "curl -sS https://denied.example.org").status != 0
    cli("stop", slug).ok()
    assert cli.refs(slug).keys() == {f"heads/bottle/{slug}"}
    branch = f"refs/bottles/{slug}/heads/bottle/{slug}"
    assert cli.git("log", "--format=%s", branch) == "Three\nTwo\nOne\nStart"
    assert cli.git("show", f"{branch}:adder.py").endswith("# one\n# open\n# three")


def test_a_crash_is_noted_and_what_was_there_is_not_lost(cli: Cli) -> None:
    cli.repository()
    with scripted({"say": "Before the crash."}, {"say": "After the crash."}) as model:
        cli.manifest(model.url)
        slug = cli.start()
        cli.inside(slug, f"{CLAUDE} first && echo '# late' >> adder.py && {COMMIT} Late").ok()
        cli.kill(slug)
        eventually(lambda: cli.slugs() == [])
        assert not (cli.state / slug / "preserved.json").exists()
        cli("resume", slug, "--detach", "--yes").ok()
        cli.inside(slug, f"{CLAUDE} --continue second").ok()
        cli.kill(slug)
        eventually(lambda: cli.slugs() == [])
        cli("stop", slug).ok()
    assert marker(cli, slug) == "it ended without being stopped"
    text = cli("logs", slug, "transcript").ok().text
    assert "Before the crash." in text
    assert "After the crash." in text
    cli("pull", slug).ok()
    assert cli.git("log", "-1", "--format=%s", f"refs/bottles/{slug}/heads/bottle/{slug}") == "Late"


def test_what_changed_in_the_manifest_is_shown_and_then_counts(
    stopped: tuple[Cli, str], idle: ScriptedModel
) -> None:
    cli, slug = stopped
    cli.manifest(
        bottle="egress:\n  allowlist: [new.example.org]\nenv:\n  COLOUR: very-purple\n", prompt="Be long."
    )
    shown = cli("resume", slug, "--detach", "--yes").ok().talk
    for words in (
        "added   may reach: new.example.org",
        "added   variable: COLOUR",
        f"removed may reach: api.anthropic.com  POST  /v1/messages  with env:ANTHROPIC_API_KEY, added outside  by {idle.url}",
        "prompt: it has changed",
    ):
        assert words in shown
    assert "very-purple" not in shown
    assert (
        cli.inside(slug, "printf %s $COLOUR; cat ~/.claude/claude-bottle-prompt.md").text
        == "very-purpleBe long."
    )
    cli("stop", slug).ok()
    assert "changed" not in cli("resume", slug, "--detach", "--yes").ok().talk
    assert "very-purple" not in (cli.state / slug / "picture.json").read_text()
    cli("stop", slug).ok()


def test_one_that_runs_is_not_started_twice(stopped: tuple[Cli, str]) -> None:
    cli, slug = stopped
    with (
        cli.begun("resume", slug, "--detach", "--yes") as first,
        cli.begun("resume", slug, "--detach", "--yes") as second,
    ):
        talk = b"".join(process.communicate()[1] for process in (first, second)).decode()
    assert sorted((first.returncode, second.returncode)) == [0, 2], talk
    assert f"{slug} is running" in talk
    assert f"claude-bottle attach {slug}" in talk
    cli("resume", slug, "--detach", "--yes").failed(2, "is running", f"claude-bottle attach {slug}")
    cli("stop", slug).ok()


def test_a_resume_that_fails_leaves_the_state_as_it_was(stopped: tuple[Cli, str]) -> None:
    cli, slug = stopped
    before = (cli.state / slug / "preserved.json").read_text()
    cli("resume", slug).failed(2, "claude needs a terminal")
    cli("resume", slug, "--detach").failed(2, "--yes")
    cli.manifest(bottle="env:\n  MISSING: ${NOT_SET_ANYWHERE}\n")
    cli("resume", slug, "--detach", "--yes").failed(3, "NOT_SET_ANYWHERE")
    assert (cli.slugs(), cli.preserved()) == ([], [slug])
    assert json.loads((cli.state / slug / "preserved.json").read_text()) == json.loads(before)
    for path in (cli.home / "agents").iterdir():
        path.unlink()
    cli("resume", slug, "--detach", "--yes").failed(3, f"there is no agent '{cli.agent}'")
    cli("pull", slug).ok()
    cli.assert_nothing_is_left()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("garbage", "not JSON"),
        ('{"schema": 99}', "use the version that made it"),
        ("", "not JSON"),
        ("[" * 100_000, "not JSON"),
    ],
    ids=["garbage", "future", "empty", "deep"],
)
def test_a_broken_state_is_one_clear_error(stopped: tuple[Cli, str], text: str, words: str) -> None:
    cli, slug = stopped
    path = cli.state / slug / "metadata.json"
    sound = path.read_text()
    path.write_text(text)
    for command in (["resume", slug, "--detach", "--yes"], ["stop", slug], ["logs", slug, "--capture"]):
        cli(*command).failed(1, f"the state of {slug} cannot be read", words)
    cli("logs", slug).ok()
    path.write_text(sound)
    cli("resume", f"{slug[:-1]}!", "--detach", "--yes").failed(3, f"did you mean {slug}?")


@pytest.mark.needs("root")
def test_a_state_of_another_user_or_one_that_cannot_be_written_is_refused(stopped: tuple[Cli, str]) -> None:
    cli, slug = stopped
    path = cli.state / slug / "metadata.json"
    os.chown(path, 1500, 1500)
    cli("resume", slug, "--detach", "--yes").failed(1, "it belongs to another user")
    os.chown(path, 0, 0)
    argv = " ".join(cli.command[:1])
    assert argv
    import subprocess

    script = 'mount --bind "$1" "$1" && mount -o remount,ro,bind "$1" && shift && exec "$@"'
    for command in (["resume", slug, "--detach", "--yes"], ["stop", slug]):
        wrapped = ["unshare", "--mount", "sh", "-c", script, "sh", str(cli.home), *cli.command, *command]
        done = subprocess.run(
            wrapped, cwd=cli.project, env=cli.env, capture_output=True, text=True, check=False
        )
        assert (done.returncode, done.stdout, "Traceback" in done.stderr) == (1, "", False), done.stderr
        assert "Read-only file system" in done.stderr


def test_what_was_said_before_a_crash_is_kept_by_whoever_finds_it(cli: Cli) -> None:
    """`pull` and `cleanup` too: afterwards what held it may be gone."""
    cli.repository()
    for command in (["pull"], ["cleanup", "--yes"]):
        with scripted({"say": "Before the crash."}) as model:
            cli.manifest(model.url)
            slug = cli.start()
            cli.inside(slug, f"{CLAUDE} first && echo '# late' >> adder.py").ok()
        cli.kill(slug)
        eventually(lambda: cli.slugs() == [])
        cli(*command, *([slug] if command == ["pull"] else [])).ok()
        archived = cli.home / "archive" / slug / "transcript" / "projects"
        if cli.backend == "docker" or command == ["pull"]:  # else there was nothing to clean up
            assert "Before the crash." in "".join(path.read_text() for path in archived.rglob("*.jsonl"))
        assert "Before the crash." in cli("logs", slug, "transcript").ok().text
        cli("stop", slug).ok()


def test_one_that_never_came_up_cannot_go_on(stopped: tuple[Cli, str]) -> None:
    """Its picture is written when it was proved: without one there may be neither home nor workspace."""
    cli, slug = stopped
    picture = cli.state / slug / "picture.json"
    sound = picture.read_text()
    picture.unlink()
    cli("resume", slug, "--detach", "--yes").failed(1, "before there was a bottle", f"--purge {slug}")
    picture.write_text("garbage")
    cli("resume", slug, "--detach", "--yes").ok()
    cli("stop", slug).ok()
    assert picture.read_text() == sound
