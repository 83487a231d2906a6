"""Building an image, with a program in the client's place: what goes in is whole, and what failed says why."""

from __future__ import annotations

import os
import signal
import tarfile
import threading
from pathlib import Path

import pytest

from claude_bottle.backend.docker.images import Recipe, build, write_context
from claude_bottle.errors import BottleError
from tests.support.processes import eventually

TAG = "claude-bottle/agent:0123456789abcdef"
LARGE = 1 << 20  # more than a pipe holds


class Client:
    """A `docker` that is a shell script; it may leave notes in its folder, as $NOTES."""

    def __init__(self, folder: Path) -> None:
        self.notes = folder / "notes"
        self.notes.mkdir()
        self._folder = folder / "bin"
        self._folder.mkdir()
        self.program = folder / "program"
        self.program.write_bytes(os.urandom(LARGE))
        self.steps: list[str] = []

    def does(self, script: str) -> None:
        path = self._folder / "docker"
        path.write_text(f"#!/bin/sh\nNOTES='{self.notes}'\n{script}\n")
        path.chmod(0o755)

    def recipe(self, program: Path | None = None) -> Recipe:
        files = (("a", b"one", 0o644), ("bin/program", program or self.program, 0o755), ("z", b"", 0o600))
        return Recipe("agent", "FROM ${BASE}\n", (("BASE", "debian:1"), ("PACKAGES", "a b")), files)

    def build(self, recipe: Recipe | None = None) -> None:
        environment = {
            "PATH": f"{self._folder}:{os.environ['PATH']}",
            "HOME": "/h",
            "DOCKER_HOST": "tcp://e:1",
        }
        environment["ANTHROPIC_API_KEY"] = "secret"
        build(environment, recipe or self.recipe(), TAG, lambda step, _: self.steps.append(step))

    def note(self, name: str) -> str:
        return (self.notes / name).read_text()


@pytest.fixture
def client(tmp_path: Path) -> Client:
    return Client(tmp_path)


def test_the_client_gets_the_tag_the_arguments_and_no_secret(client: Client) -> None:
    client.does('cat >/dev/null; printf "%s\\n" "$@" >"$NOTES/argv"; env >"$NOTES/environment"')
    client.build()
    assert client.note("argv").splitlines() == [
        *("build", "--force-rm", "--tag", TAG, "--label", "io.claude-bottle.role=image"),
        *("--build-arg", "BASE=debian:1", "--build-arg", "PACKAGES=a b", "-"),
    ]
    environment = dict(line.split("=", 1) for line in client.note("environment").splitlines())
    assert (environment["DOCKER_HOST"], environment["BUILDKIT_PROGRESS"]) == ("tcp://e:1", "plain")
    assert "ANTHROPIC_API_KEY" not in environment


def test_the_context_is_what_the_recipe_names(client: Client) -> None:
    client.does('cat >"$NOTES/context"')
    client.build()
    with tarfile.open(client.notes / "context") as tar:
        entries = {entry.name: entry for entry in tar}
        found = {name: file.read() for name, entry in entries.items() if (file := tar.extractfile(entry))}
    assert found == {
        "Dockerfile": b"FROM ${BASE}\n",
        "a": b"one",
        "bin/program": client.program.read_bytes(),
        "z": b"",
    }
    assert {name: entry.mode for name, entry in entries.items()} == {
        "Dockerfile": 0o644,
        "a": 0o644,
        "bin/program": 0o755,
        "z": 0o600,
    }
    assert {(entry.uid, entry.gid, entry.mtime, entry.isreg()) for entry in entries.values()} == {
        (0, 0, 0, True)
    }


def test_a_context_is_the_same_for_the_same(client: Client, tmp_path: Path) -> None:
    """So that an engine finds what it has built of it before."""
    for name in ("first", "second"):
        os.utime(client.program, (len(name), len(name)))
        with open(tmp_path / name, "wb") as file:
            write_context(client.recipe(), file)
    assert (tmp_path / "first").read_bytes() == (tmp_path / "second").read_bytes()


def test_every_step_is_told_as_it_begins_and_nothing_else(client: Client) -> None:
    said = [
        "Step 1/2 : FROM debian",
        " ---> 0123456789ab",
        "#5 [2/4] RUN apt-get update",
        "Successfully built",
    ]
    log = "#5 1.234 Get:1 http://example.org/debian bookworm InRelease"
    client.does(f"cat >/dev/null; printf '%s\n' {' '.join(map(repr, [*said, log]))}")
    client.build()
    assert client.steps == [f"image agent: {said[0]}", f"image agent: {said[2]}"]


def test_a_failed_build_ends_with_the_last_lines_of_the_engine(client: Client) -> None:
    client.does("cat >/dev/null; seq 100; echo; echo 'E: no package' >&2; exit 1")
    with pytest.raises(BottleError) as caught:
        client.build()
    assert caught.value.message == "the image agent cannot be built: E: no package"
    assert (caught.value.hint or "").splitlines() == [str(number) for number in range(90, 101)]


@pytest.mark.parametrize(
    ("script", "said"),
    [
        pytest.param("echo 'no engine'; exit 1", "no engine", id="before-it-reads"),
        pytest.param("head -c 10 >/dev/null; echo refused; exit 125", "refused", id="after-a-little"),
        pytest.param("cat >/dev/null; exit 1", "the engine said nothing", id="without-a-word"),
        pytest.param("cat >/dev/null; printf '\\033]2;x\\007\\377'; exit 1", "\\x1b]2;x\\x07", id="escapes"),
        pytest.param("echo last; kill -9 $$", "last", id="killed"),
    ],
)
def test_whatever_ends_it_there_is_a_word(client: Client, script: str, said: str) -> None:
    client.does(script)
    with pytest.raises(BottleError) as caught:
        client.build()
    assert caught.value.message.startswith(f"the image agent cannot be built: {said}")


def test_a_client_that_has_not_read_all_has_built_something_else(client: Client) -> None:
    client.does("echo 'Successfully built'; exit 0")
    with pytest.raises(BottleError):
        client.build()


def test_a_context_that_cannot_be_finished_is_not_built(client: Client, tmp_path: Path) -> None:
    """Else the tag would name an image that lacks something: it must not come to see an end of its input."""
    client.does('cat >/dev/null; touch "$NOTES/built"')
    with pytest.raises((OSError, BottleError)):
        client.build(client.recipe(tmp_path / "gone"))
    assert os.listdir(client.notes) == []


def test_a_client_that_says_much_before_it_reads_is_heard(client: Client) -> None:
    client.does('echo $$ >"$NOTES/pid"; seq 100000 </dev/null; echo refused; exit 1')
    caught: list[BaseException] = []

    def attempt() -> None:
        try:
            client.build()
        except BottleError as error:
            caught.append(error)

    thread = threading.Thread(target=attempt)
    thread.start()
    ended = eventually(lambda: not thread.is_alive(), 5)
    if not ended:
        os.kill(int(client.note("pid")), signal.SIGKILL)
    thread.join()
    assert ended
    assert "refused" in str(caught[0])
