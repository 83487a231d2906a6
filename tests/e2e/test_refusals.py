"""What cannot work is said in a few lines with a way on; nothing runs afterwards and nothing is lost."""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from claude_bottle.scripted.server import ScriptedModel
from tests.support.e2e import Cli, write

pytestmark = [pytest.mark.backends("bubblewrap"), pytest.mark.needs("envoy", "claude")]

START = ("--detach", "--yes")


def assert_untouched(cli: Cli) -> None:
    cli.assert_nothing_is_left()
    assert (
        not cli.state.exists()
        or [path for path in cli.state.iterdir() if not path.name.startswith(".")] == []
    )
    assert cli.git("for-each-ref", "refs/bottles") == ""


# The manifest


def test_every_error_of_a_manifest_is_told_with_its_place(ready: Cli) -> None:
    bottles, agents = ready.home / "bottles", ready.home / "agents"
    write(
        bottles / "wrong.md",
        "---\negres: {}\nlimits:\n  memory: lots\n  pids: 0\nenv:\n  A: [1]\n---\n",
    )
    write(agents / "lost.md", "---\nbottle: dve\n---\n")
    write(agents / "open.md", "---\nbottle: dev\nmodel: [\n---\n")
    done = ready("start", ready.agent, *START)
    done.failed(2)
    places = re.findall(r"(?:^claude-bottle: |^  )(\S+\.md:\d+:\d+): ", done.talk, re.MULTILINE)
    assert len(places) == 6, done.talk
    expected = [
        ("wrong.md", 2),
        ("wrong.md", 4),
        ("wrong.md", 5),
        ("wrong.md", 7),
        ("lost.md", 2),
        ("open.md", 4),
    ]
    found = sorted((Path(place.split(":")[0]).name, int(place.split(":")[1])) for place in places)
    assert found == sorted(expected), done.talk
    for hint in ('did you mean "egress"?', 'did you mean "dev"?'):
        assert hint in done.talk
    assert_untouched(ready)


def test_an_agent_that_is_not_there_is_exit_3_with_the_nearest(ready: Cli) -> None:
    wrong = ready.agent[:-1]
    for command in (["start", wrong, *START], ["run", wrong, "-p", "x", "--yes"], ["info", wrong]):
        ready(*command).failed(3, f"there is no agent '{wrong}'", f"did you mean {ready.agent}?")
    assert_untouched(ready)


def test_without_any_agent_the_way_on_is_init(cli: Cli) -> None:
    cli.repository()
    cli("start", "developer", *START).failed(3, "claude-bottle init")
    written = cli("init").ok().text.splitlines()
    assert [str(Path(line).relative_to(cli.home)) for line in written] == [
        "bottles/dev.md",
        "agents/developer.md",
    ]
    again = cli("init").ok()
    assert (again.out, again.talk.count("kept as it is")) == (b"", 2)
    cli("start", "developer", "--dry-run").ok()
    assert cli("list", "agents").ok().rows[0][:2] == ["developer", "dev"]
    assert cli("list", "bottles").ok().text == "dev\n"
    assert_untouched(cli)


@pytest.mark.parametrize(
    "setting", ["image: debian:12", "packages: [jq]", "git: {repos: {a: {url: https://example.org/a}}}"]
)
def test_a_setting_that_would_have_no_effect_is_refused(
    ready: Cli, idle: ScriptedModel, setting: str
) -> None:
    ready.manifest(idle.url, bottle=f"{setting}\n")
    ready("start", ready.agent, *START).failed(2, "dev.md", "remove it")
    assert_untouched(ready)


def test_a_projects_bottles_are_named_and_ignored(ready: Cli) -> None:
    folder = ready.project / ".claude-bottle"
    write(folder / "bottles" / "dev.md", "---\negress: {allowlist: [evil.example.org]}\n---\n")
    write(folder / "bottles" / "wide.md", "---\negress: {allowlist: [evil.example.org]}\n---\n")
    write(folder / "agents" / "visitor.md", "---\nbottle: dev\n---\nFrom the project.\n")
    write(folder / "agents" / f"{ready.agent}.md", "---\nbottle: wide\n---\nNot me.\n")
    write(folder / "agents" / "pushy.md", "---\nbottle: dev\n---\n")
    shown = ready("start", ready.agent, "--dry-run").ok()
    assert f"{folder}/bottles: ignored; only your home defines bottles" in shown.talk
    assert "ignored; an agent of your home has the same name" in shown.talk
    assert "evil.example.org" not in shown.talk
    ready("start", "visitor", "--dry-run").ok()
    write(folder / "agents" / "pushy.md", "---\nbottle: wide\n---\n")
    ready("start", ready.agent, "--dry-run").failed(2, "pushy.md:2", "wide")
    assert_untouched(ready)


# The machine


@contextmanager
def path_without(cli: Cli, program: str) -> Iterator[dict[str, str]]:
    """A PATH with all that is on the host's but this program."""
    folder = cli.root / f"no-{program}"
    folder.mkdir()
    for place in reversed(os.environ["PATH"].split(os.pathsep)):
        for name in os.listdir(place) if os.path.isdir(place) else ():
            if name != program:
                (folder / name).unlink(missing_ok=True)
                (folder / name).symlink_to(os.path.join(place, name))
    yield {"PATH": str(folder)}


def test_without_bubblewrap_the_mend_is_told(ready: Cli) -> None:
    no_engine = {"DOCKER_HOST": f"unix://{ready.root}/no-engine.sock"}
    with path_without(ready, "bwrap") as env:
        env = {**env, **no_engine}
        for options in ((), ("--backend", "bubblewrap")):
            done = ready("start", ready.agent, *START, *options, env=env)
            done.failed(5, "bubblewrap is not installed", "apt-get install bubblewrap")
        doctor = ready("doctor", env=env)
        assert (doctor.status, "apt-get install bubblewrap" in doctor.text) == (5, True)
        doctor = ready("doctor", "--json", env=env)
        assert not all(finding["ok"] for finding in doctor.json["findings"])
    assert_untouched(ready)


@pytest.mark.parametrize("program", ["git", "setpriv", "sh"])
def test_without_a_program_that_is_needed_nothing_is_left(ready: Cli, program: str) -> None:
    with path_without(ready, program) as env:
        done = ready("start", ready.agent, *START, env=env)
    if done.status == 0:  # it can be done without
        ready("stop", done.text.strip()).ok()
        return
    done.failed(done.status, program)
    assert_untouched(ready)


@pytest.mark.parametrize("claude", ["missing", "a-script", "a-folder", "empty"])
def test_a_claude_that_is_none_is_named(ready: Cli, claude: str) -> None:
    target = ready.root / claude
    if claude == "a-script":
        write(target, "#!/bin/sh\n").chmod(0o755)
    elif claude == "a-folder":
        target.mkdir()
    elif claude == "empty":
        write(target, "")
    ready("start", ready.agent, *START, env={"CLAUDE_BOTTLE_CLAUDE": str(target)}).failed(3, str(target))
    assert_untouched(ready)


@pytest.mark.parametrize("envoy", ["missing", "not-executable", "ends-at-once", "is-a-script"])
def test_an_envoy_that_is_none_ends_the_start(ready: Cli, envoy: str) -> None:
    target = ready.root / "an-envoy"
    if envoy == "not-executable":
        write(target, "")
    elif envoy == "is-a-script":
        write(target, "#!/no/such/interpreter\n").chmod(0o755)
    elif envoy == "ends-at-once":
        target = Path("/bin/false")
    done = ready("start", ready.agent, *START, env={"CLAUDE_BOTTLE_ENVOY": str(target)})
    assert done.status in (1, 3, 5)
    done.failed(done.status, "nvoy")
    named = re.findall(r"its log: (\S+)", done.talk)
    assert [path for path in named if not Path(path).exists()] == []
    assert_untouched(ready)


def test_without_a_terminal_start_says_what_else_there_is(ready: Cli) -> None:
    ready("start", ready.agent, "--yes").failed(
        2, "claude needs a terminal", "--detach", "claude-bottle run AGENT"
    )
    ready("start", ready.agent, "--detach").failed(2, "no terminal to ask on", "--yes")
    ready("run", ready.agent, "-p", "x").failed(2, "no terminal to ask on", "--yes")
    assert_untouched(ready)


@pytest.mark.parametrize(
    ("options", "status", "words"),
    [
        (["--backend", "bubblewarp"], 2, "there is no backend 'bubblewarp'"),
        (["--backend", ""], 2, "backend"),
        (["--workspace", "clon"], 2, "there is no workspace mode 'clon'"),
        (["--folder", "missing"], 3, "there is no folder"),
        (["--folder", "adder.py"], 3, "there is no folder"),
        (["--folder", "/dev/null/x"], 3, "there is no folder"),
        (["--", "--dangerously-skip-permissions"], 2, "is given already"),
        (["--no-such-option"], 2, "--no-such-option"),
    ],
)
def test_an_option_that_means_nothing_is_refused(
    ready: Cli, options: list[str], status: int, words: str
) -> None:
    ready("start", ready.agent, *START, *options).failed(status, words)
    assert_untouched(ready)


# The state


@pytest.fixture
def stopped(ready: Cli) -> tuple[Cli, str]:
    slug = ready.start()
    ready.inside(slug, "echo '# mine' >> adder.py").ok()
    ready("stop", slug).ok()
    return ready, slug


BROKEN = {
    "empty": "",
    "garbage": "\x00\x01{",
    "not an object": "[]",
    "without end": "[" * 200_000,
    "of the future": '{"schema": 99}',
    "unknown key": '{"schema": 1, "surprise": 1}',
    "another's": None,
}


@pytest.mark.parametrize("kind", BROKEN)
def test_metadata_that_cannot_be_read_is_told_and_hides_nothing(stopped: tuple[Cli, str], kind: str) -> None:
    cli, slug = stopped
    file = cli.state / slug / "metadata.json"
    good = file.read_text()
    text = BROKEN[kind]
    file.write_text(json.dumps({**json.loads(good), "slug": f"{cli.agent}-00000"}) if text is None else text)
    listed = cli("list", "preserved").ok()
    assert (listed.rows, slug in listed.talk) == ([["-", slug, "-"]], True)
    assert len(cli("list", "preserved", "--json").ok().json["warnings"]) == 1
    for command in (["stop", slug], ["pull", slug], ["diff", slug], ["exec", slug, "--", "true"]):
        cli(*command).failed(1, f"the state of {slug} cannot be read", str(cli.state / slug))
    assert cli("list").ok().out == b""
    file.write_text(good)
    cli("pull", slug).ok()


@pytest.mark.parametrize("kind", ["missing", "a folder", "a link that leads nowhere"])
def test_metadata_that_is_no_file_is_told(stopped: tuple[Cli, str], kind: str) -> None:
    cli, slug = stopped
    file = cli.state / slug / "metadata.json"
    file.unlink()
    if kind == "a folder":
        file.mkdir()
    elif kind == "a link that leads nowhere":
        file.symlink_to("nowhere")
    assert cli("list", "preserved").ok().rows == [["-", slug, "-"]]
    cli("stop", slug).failed(1, f"the state of {slug} cannot be read")


def test_a_running_bottle_with_broken_metadata_is_still_listed(ready: Cli) -> None:
    slug = ready.start()
    file = ready.state / slug / "metadata.json"
    good = file.read_text()
    file.write_text("garbage")
    listed = ready("list").ok()
    assert listed.rows[0][:2] == ["bubblewrap", slug]
    assert slug in listed.talk
    assert ready("list", "preserved").ok().rows == []
    ready("stop", slug).failed(1, "cannot be read")
    file.write_text(good)


def test_what_is_strange_in_the_state_folder_disturbs_nobody(stopped: tuple[Cli, str]) -> None:
    cli, slug = stopped
    write(cli.state / "file-12345", "")
    (cli.state / "link-12345").symlink_to("/")
    (cli.state / "UPPER").mkdir()
    (cli.state / "empty-12345").mkdir()
    os.mkfifo(cli.state / "empty-12345" / "metadata.json.fifo")
    rows = cli("list", "preserved").ok().rows
    assert {row[1] for row in rows} == {slug, "file-12345", "link-12345", "empty-12345"}
    cli("stop", "file-12345").failed(3)
    cli("stop", "empty-12345").failed(1, "no metadata.json")
    cli("pull", slug).ok()


# Folders


@pytest.mark.parametrize("home", ["", "relative/path", "FILE", "FILE/below"])
def test_a_home_that_can_be_none_is_refused(ready: Cli, home: str) -> None:
    file = write(ready.root / "a-file", "")
    env = {"CLAUDE_BOTTLE_HOME": home.replace("FILE", str(file))}
    done = ready("start", ready.agent, *START, env=env)
    done.failed(1, "CLAUDE_BOTTLE_HOME")


@pytest.mark.needs("root")
def test_a_home_of_another_user_is_refused_and_left_alone(ready: Cli) -> None:
    foreign = ready.root / "foreign"
    foreign.mkdir()
    os.chown(foreign, 1500, 1500)
    for command in (["start", ready.agent, *START], ["init"]):
        ready(*command, env={"CLAUDE_BOTTLE_HOME": str(foreign)}).failed(
            1, f"{foreign} belongs to another user"
        )
    assert list(foreign.iterdir()) == []


def test_a_home_that_others_may_enter_is_closed(ready: Cli) -> None:
    ready.home.chmod(0o755)
    slug = ready.start()
    assert ready.home.stat().st_mode & 0o777 == 0o700
    assert (ready.state / slug).stat().st_mode & 0o777 == 0o700


def test_an_operator_without_a_home_folder_can_work(ready: Cli) -> None:
    slug = ready.start(env={"HOME": str(ready.root / "nobody-lives-here")})
    ready("exec", slug, "--", "true").ok()


def test_a_working_folder_that_is_gone_is_said(ready: Cli) -> None:
    gone = ready.root / "gone"
    gone.mkdir()
    argv = [
        "sh",
        "-c",
        'cd "$0" && rmdir "$0" && exec "$@"',
        str(gone),
        *ready.command,
        "start",
        ready.agent,
        *START,
    ]
    done = subprocess.run(argv, env=ready.env, capture_output=True, text=True, check=False)
    assert (done.returncode, "Traceback" in done.stderr, done.stdout) == (1, False, ""), done.stderr
    assert "folder" in done.stderr
    assert_untouched(ready)


def test_a_full_output_is_an_error_not_a_silence(stopped: tuple[Cli, str]) -> None:
    cli, slug = stopped
    for command in (
        ["list", "preserved"],
        ["list", "agents"],
        ["diff", slug],
        ["logs", slug],
        ["info", cli.agent],
    ):
        with open("/dev/full", "wb") as full:
            done = subprocess.run(
                [*cli.command, *command],
                stdout=full,
                stderr=subprocess.PIPE,
                env=cli.env,
                cwd=cli.project,
                text=True,
                check=False,
            )
        assert (done.returncode, "No space left" in done.stderr) == (1, True), done.stderr
        assert not re.search("Traceback|Exception ignored", done.stderr), done.stderr


def test_a_reader_who_goes_away_is_no_drama(stopped: tuple[Cli, str]) -> None:
    cli, slug = stopped
    for command in (["list", "preserved"], ["diff", slug], ["--help"]):
        out, into = os.pipe()
        os.close(out)
        done = subprocess.run(
            [*cli.command, *command],
            stdout=into,
            stderr=subprocess.PIPE,
            env=cli.env,
            cwd=cli.project,
            text=True,
            check=False,
        )
        os.close(into)
        assert not re.search("Traceback|Exception ignored", done.stderr), done.stderr
