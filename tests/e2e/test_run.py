"""`run`: the real Claude Code does real work in a real bottle, and only the work comes back."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from claude_bottle.scripted.server import ScriptedModel
from tests.support.e2e import Cli, bash, eventually, fix_the_test, scripted

pytestmark = pytest.mark.needs("envoy", "claude")

# Looks at all that a bottle can read for a word that is only put together while it runs.
SCAN = r"""
import glob, os, stat, sys
needle = "".join(sys.argv[1:]).encode()
places = [*glob.glob("/proc/[0-9]*/environ"), *glob.glob("/proc/[0-9]*/cmdline")]
for top in ("/home", "/etc", "/opt", "/tmp", "/run", "/var", "/root", "/srv", "/mnt", "/dev/shm"):
    for folder, _, names in os.walk(top):
        places += [os.path.join(folder, name) for name in names]
read = found = 0
for place in places:
    try:
        if place.startswith("/proc") or stat.S_ISREG(os.stat(place).st_mode) and os.stat(place).st_size < 64 << 20:
            with open(place, "rb") as file:
                hit = needle in file.read()
            read, found = read + 1, found + hit
            if hit:
                print("FOUND", place)
    except OSError:
        pass
print(f"looked into {read > 40 or read}, found {found}")
"""


def snapshot(folder: Path) -> dict[str, tuple[int, int, bytes]]:
    """Every file of a repository, byte for byte, but for what a hand-over adds: objects and its own refs."""
    found = {}
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        if not path.is_file() or name.startswith((".git/objects/", ".git/refs/bottles/")):
            continue
        status = path.lstat()
        found[name] = (status.st_mode, status.st_mtime_ns, path.read_bytes())
    return found


def test_an_agent_fixes_the_test_and_only_its_commit_comes_back(anyone: Cli) -> None:
    cli = anyone
    cli.repository()
    cli.git("branch", "other")
    (cli.project / "adder.py").write_text("def add(a, b):\n    return a - b\n# mine\n")
    (cli.project / ".git" / "hooks" / "pre-commit").write_text("#!/bin/sh\nexit 1\n")
    cli.git("add", "adder.py")
    before = snapshot(cli.project)
    with ScriptedModel(fix_the_test()) as model:
        cli.manifest(model.url)
        done = cli("run", cli.agent, "-p", "Please fix the test.", "--json", "--yes").ok()
    assert (model.failures, model.finished) == ((), True)

    answer = done.json
    slug = answer["slug"]
    assert answer["schema"] == 1
    assert answer["text"] == model.script.turns[-1].say[0]
    assert (answer["status"], answer["preserved"], answer["problems"]) == (0, False, [])
    assert answer["decisions"]["allow"] > 0

    assert cli.refs(slug) == {
        f"heads/bottle/{slug}": cli.git("rev-parse", f"refs/bottles/{slug}/heads/bottle/{slug}")
    }
    (work,) = answer["work"]
    tip = work["ref"]
    assert work == {"ref": f"refs/bottles/{slug}/heads/bottle/{slug}", "commit": cli.git("rev-parse", tip)}
    assert cli.git("log", "--format=%s", tip) == "Add instead of subtracting\nStart"
    assert cli.git("show", f"{tip}:adder.py") == "def add(a, b):\n    return a + b"
    assert snapshot(cli.project) == before

    assert cli("list").ok().out == b""
    assert cli("list", "preserved").ok().out == b""
    assert [path.name for path in cli.state.iterdir() if not path.name.startswith(".")] == []
    archive = cli.home / "archive" / slug
    (transcript,) = archive.glob("transcript/projects/*/*.jsonl")
    assert "Add instead of subtracting" in transcript.read_text()
    decisions = [json.loads(line) for line in (archive / "decisions.jsonl").read_text().splitlines()]
    assert {"api.anthropic.com"} <= {decision.get("host") for decision in decisions}
    cli.assert_nothing_is_left()


def test_the_server_sees_the_real_key_and_the_bottle_only_a_placeholder(anyone: Cli) -> None:
    cli = anyone
    cli.repository()
    halves = f"'{cli.key[:12]}' '{cli.key[12:]}'"
    look = f"printenv | sort; cat > /tmp/scan.py <<'END'\n{SCAN}\nEND\npython3 /tmp/scan.py {halves}"
    control = "python3 /tmp/scan.py place holder"
    with scripted(
        bash(look),
        {
            "expect": [
                {
                    "contains": ["ANTHROPIC_API_KEY=placeholder\n", "looked into True, found 0"],
                    "lacks": [cli.key],
                    "is_error": False,
                }
            ],
            **bash(control),
        },
        {"expect": [{"matches": r"^FOUND /proc/[0-9]+/environ$", "is_error": False}], "say": "Done."},
    ) as model:
        cli.manifest(model.url)
        cli("run", cli.agent, "-p", "Look for the key.", "--yes").ok()
    assert (model.failures, model.finished) == ((), True)
    asked = [request for request in model.requests if request.path.startswith("/v1/messages")]
    assert {request.headers.get("x-api-key") for request in asked} == {cli.key}
    assert not [value for request in asked for value in request.headers.values() if "placeholder" in value]
    assert cli.key.encode() not in b"".join(
        path.read_bytes() for path in cli.root.rglob("*") if path.is_file()
    )


def test_no_secret_is_on_the_host_either_while_a_bottle_runs(cli: Cli, idle: ScriptedModel) -> None:
    cli.repository()
    cli.manifest(idle.url)
    cli.start()
    secret = cli.key.encode()
    assert [path for path in cli.root.rglob("*") if path.is_file() and secret in path.read_bytes()] == []
    owned = cli.processes("")
    assert len(owned) > 2
    for pid in owned:
        for name in ("cmdline", "environ"):
            assert secret not in Path(f"/proc/{pid}/{name}").read_bytes()


def test_an_uncommitted_change_comes_back_as_a_ref_of_its_own(cli: Cli) -> None:
    cli.repository()
    with scripted(
        bash("echo '# half done' >> adder.py; echo new > new.txt; rm test_adder.py"), {"say": "Not finished."}
    ) as model:
        cli.manifest(model.url)
        answer = cli("run", cli.agent, "-p", "Begin.", "--yes", "--json").ok().json
    assert model.failures == ()
    refs = cli.refs(answer["slug"])
    assert set(refs) == {"uncommitted"}  # the branch has not moved
    changed = cli.git("diff", "--name-status", "main", refs["uncommitted"])
    assert changed.splitlines() == ["M\tadder.py", "A\tnew.txt", "D\ttest_adder.py"]


def test_the_prompt_may_come_from_standard_input(cli: Cli) -> None:
    cli.repository()
    with scripted({"prompt": {"contains": "naïve prompt\nof two lines"}, "say": "Read."}) as model:
        cli.manifest(model.url)
        done = cli("run", cli.agent, "-p", "-", "--yes", stdin="naïve prompt\nof two lines".encode()).ok()
    assert (model.failures, done.text) == ((), "Read.\n")
    assert "has changed nothing" not in done.talk


@pytest.mark.parametrize("how", ["argument", "standard input"])
def test_a_prompt_that_is_no_text_is_refused_before_anything_starts(
    cli: Cli, idle: ScriptedModel, how: str
) -> None:
    cli.repository()
    cli.manifest(idle.url)
    if how == "argument":
        done = cli("run", cli.agent, "--yes", "-p", b"caf\xe9")
    else:
        done = cli("run", cli.agent, "--yes", "-p", "-", stdin=b"caf\xe9")
    done.failed(2, "the prompt is not UTF-8")
    assert not cli.state.exists() or cli.preserved() == []


class Refusing(BaseHTTPRequestHandler):
    """An API that knows nobody."""

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", "0")))
        self.refuse(403)

    def do_GET(self) -> None:  # settings: Claude Code asks again and again where a server knows no answer
        self.refuse(404)

    def refuse(self, status: int) -> None:
        body = b'{"type": "error", "error": {"type": "permission_error", "message": "who are you"}}'
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - http.server's own name
        pass


@contextmanager
def refusing() -> Iterator[str]:
    with HTTPServer(("127.0.0.1", 0), Refusing) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()


def test_what_claude_could_not_do_is_its_status_and_the_state_is_preserved(cli: Cli) -> None:
    cli.repository()
    with refusing() as url:
        cli.manifest(url)
        done = cli("run", cli.agent, "-p", "Hello.", "--yes", "--json")
    assert done.status == 1
    answer = done.json
    assert (answer["status"], answer["preserved"]) == (1, True)
    assert "who are you" in answer["text"]
    assert f"claude-bottle pull {answer['slug']}" in done.talk
    assert "Traceback" not in done.talk
    assert cli.preserved() == [answer["slug"]]
    assert (cli.home / "archive" / answer["slug"] / "decisions.jsonl").exists()
    cli.assert_nothing_is_left()


def test_a_run_ends_when_its_time_is_over(cli: Cli) -> None:
    cli.repository()
    with scripted(bash("tail -f /dev/null"), {"say": "Never."}) as model:
        cli.manifest(model.url)
        done = cli("run", cli.agent, "-p", "Wait.", "--yes", "--timeout", "2s")
    done.failed(1, "claude did not end within 2 s")
    (slug,) = cli.preserved()
    assert f"claude-bottle pull {slug}" in done.talk
    cli.assert_nothing_is_left()


def test_a_run_that_is_interrupted_hands_over_what_there_is(cli: Cli) -> None:
    cli.repository()
    with scripted(bash("echo kept > kept.txt; sleep 600"), {"say": "Never."}) as model:
        cli.manifest(model.url)
        with cli.begun("run", cli.agent, "-p", "Wait.", "--yes") as process:
            eventually(lambda: any(cli.inside(slug, "test -e kept.txt").status == 0 for slug in cli.slugs()))
            process.terminate()
            out, err = process.communicate()
    assert (process.returncode, out) == (143, b"")
    assert b"ended by signal 15" in err
    assert b"Traceback" not in err
    (slug,) = cli.preserved()
    assert cli.git("show", f"refs/bottles/{slug}/uncommitted:kept.txt") == "kept"
    cli.assert_nothing_is_left()


@pytest.mark.parametrize("time", ["0", "-1", "1.5h", "soon", "", "1d", "²"])
def test_a_time_that_is_none_is_refused(cli: Cli, time: str) -> None:
    cli("run", cli.agent, "-p", "x", "--yes", f"--timeout={time}").failed(2, "is no time")
