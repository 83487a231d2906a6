"""The command lines for an engine: every container is bare, no odd character escapes, and no secret is in any."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from claude_bottle.backend.base import AUTHORITIES, BottleRequest, BundlePlan, EnvoyFiles, Grant, Secrets
from claude_bottle.backend.docker.argv import Share, enter
from claude_bottle.backend.docker.engine import EngineFacts
from claude_bottle.backend.docker.launch import Launching
from claude_bottle.backend.docker.plan import DockerPlan
from claude_bottle.errors import BottleError, UsageError
from claude_bottle.proc import SystemRunner
from claude_bottle.state.paths import BottlePaths
from tests.support.plans import STATE, request
from tests.unit.backend.docker.test_plan import (
    IMAGES,
    LIMITS,
    LOCAL,
    MODEL,
    REMOTE,
    bound,
    clone,
    plan,
    with_route,
)

HARD = (
    "--read-only",
    "--cap-drop=ALL",
    "--security-opt=no-new-privileges",
    "--init",
    "--pull=never",
    "--restart=no",
)
ALONE = ("--cgroupns=private", "--ipc=private")
# Each would open a way out of a container, or into it.
NEVER = (
    *("--privileged", "--cap-add", "--volume", "-v", "--volumes-from", "--device", "--device-cgroup-rule"),
    *("--publish", "-p", "--publish-all", "-P", "--expose", "--link", "--gpus", "--group-add", "--userns"),
    *("--pid", "--uts", "--add-host", "--env-file", "--label-file", "--cgroup-parent", "--runtime", "--rm"),
)
PRIVATE, CREDENTIAL = "private-value-7f3a", "credential-value-91bc"


def options(argv: list[str], image: str) -> list[str]:
    """What stands before the image, an option and its value as one word."""
    found: list[str] = []
    for word in argv[2 : argv.index(image)]:
        if word.startswith("-"):
            found.append(word)
        else:
            found[-1] += f"={word}"
    return found


def containers(found: DockerPlan) -> dict[str, list[str]]:
    return {
        "agent": options(found.run_agent(f"{STATE}/run/seccomp.json"), IMAGES[0]),
        "sidecars": options(found.run_sidecars(), IMAGES[1]),
    }


PLANS: dict[str, Callable[[Path], DockerPlan]] = {
    "clone": lambda place: plan(clone(place)),
    "remote": lambda place: plan(clone(place), REMOTE),
    "root": lambda place: plan(clone(place), operator=0),
    "bind": bound,
    "host-network": lambda _: plan(with_route(MODEL)),
    "limits": lambda _: plan(request(limits=LIMITS)),
}


@pytest.fixture(params=list(PLANS))
def found(request: pytest.FixtureRequest, tmp_path: Path) -> DockerPlan:
    return PLANS[request.param](tmp_path)


def test_every_container_is_bare(found: DockerPlan) -> None:
    for words in containers(found).values():
        assert set(HARD + ALONE) <= set(words)
        names = [word.partition("=")[0] for word in words]
        assert set(names) & set(NEVER) == set()
        assert [word for word in words if word.startswith("--security-opt=") and "unconfined" in word] == []
        assert names.count("--network") == names.count("--user") == names.count("--cap-drop") == 1
        assert {"--user=0", "--user=root", "--user=0:0"} & set(words) == set()


def test_the_bottle_has_no_network_and_a_filter_and_its_sidecars_nothing_of_another(
    found: DockerPlan,
) -> None:
    words = containers(found)
    assert "--network=none" in words["agent"]
    assert f"--security-opt=seccomp={STATE}/run/seccomp.json" in words["agent"]
    assert words["agent"].count("--dns=127.0.0.1") == 1
    assert {"--network=bridge", "--network=host"} & set(words["sidecars"])
    assert not [word for word in words["agent"] + words["sidecars"] if "container:" in word]


def test_what_is_mounted_is_what_was_granted_and_the_engines_socket_never_is(found: DockerPlan) -> None:
    granted = {grant.source for grant in found.request.grants}
    own = {f"{STATE}/run/egress", str(found.request.paths.logs)}
    for name, words in containers(found).items():
        mounts = [parsed(word.partition("=")[2]) for word in words if word.startswith("--mount=")]
        assert {mount["type"] for mount in mounts} <= {"bind", "volume"}
        bound = {mount["src"] for mount in mounts if mount["type"] == "bind"}
        assert bound <= (granted if name == "agent" else own)
        assert not [mount for mount in mounts if "docker.sock" in mount.get("src", "") + mount["dst"]]
        assert len({mount["dst"] for mount in mounts}) == len(mounts)
        written = {mount["dst"] for mount in mounts if mount["type"] == "bind" and "readonly" not in mount}
        if name == "agent":
            assert written == {share.target for share in found.shares if share.writable}


def parsed(text: str) -> dict[str, str]:
    """As the engine's client reads it: one record of comma-separated values."""
    (record,) = csv.reader(io.StringIO(text, newline=""), strict=True)
    return {name: value for name, _, value in (field.partition("=") for field in record)}


# A carriage return has a test of its own.
PATHS = st.text(st.characters(exclude_characters="\0\r", exclude_categories=["Cs"]), min_size=1).map(
    "/srv/{}".format
)


@given(PATHS, st.booleans())
@example('/srv/a,b "c" ,readonly,"', False)
@example("/srv/x,dst=/etc", False)
@example("/srv/two\nlines", True)
@example('/srv/"', True)
@example("/srv/ spaces ", False)
@example("/srv/=a=b", False)
def test_no_character_of_a_path_becomes_an_option(path: str, writable: bool) -> None:
    for share in (Share(path, "/opt/x", writable), Share("/srv/x", path, writable)):
        option, text = share.words()
        assert option == "--mount"
        expected = {"type": "bind", "src": share.source, "dst": share.target}
        assert parsed(text) == (expected if writable else {**expected, "readonly": ""})


@pytest.mark.parametrize("name", ["a\r\nb", "a,b\r\n"])
def test_a_path_that_a_mount_cannot_carry_is_never_shared(tmp_path: Path, name: str) -> None:
    """The client drops a carriage return before a line's end, quoted or not, and would ask for another folder."""
    folder = tmp_path / name
    folder.mkdir()
    grant = Grant(str(folder), "/opt/objects/0")
    try:
        shares = plan(request(grant), operator=folder.stat().st_uid or 1000).shares
    except UsageError:
        return
    assert shares == ()


def test_entering_frames_the_command_and_ends_before_it() -> None:
    command = ["sh", "-c", "claude || true", "-t", "--user", "root", "--"]
    argv = enter("claude-bottle-x", command, [("TERM", "xterm")], tty=True, directory="/x y")
    assert argv[:6] == ["docker", "exec", "--interactive", "--user", "node", "claude-bottle-x"]
    assert argv[-len(command) - 1 :] == ["--", *command]
    framing = argv[6 : len(argv) - len(command) - 1]
    assert framing[:4] == ["/usr/bin/python3", "-I", "-S", "-c"]
    assert framing[-6:] == ["-w", "/x y", "-e", "/run/claude-bottle/private", "-v", "TERM=xterm"]
    assert framing[-7] == "-t"
    quiet = enter("claude-bottle-x", ["id"], (), tty=False, directory="/")
    assert not {"-t", "-v", "--tty", "--privileged", "--env"} & set(quiet)


# Notes its words and its environment, keeps what it is told, and agrees to all that it could be asked.
ENGINE = """#!/bin/sh
exec 9>>"$NOTES/$$"
printf '%s\\n' "$@" >&9
env >&9
case "$1" in
run) i=0; while [ $i -lt 9 ]; do echo '{"ms": 1, "step": "s", "ready": true, "kept": true}'; i=$((i+1)); done;;
esac
case "$1" in run|exec) cat >>"$NOTES/../told";; esac
"""


class Bundle:
    def fill(self) -> None: ...

    def __call__(self) -> BundlePlan:
        return BundlePlan({}, {"env:TOKEN": CREDENTIAL})


@pytest.mark.parametrize("facts", [LOCAL, REMOTE], ids=["local", "remote"])
def test_no_secret_is_in_any_command_or_its_environment(tmp_path: Path, facts: EngineFacts) -> None:
    """The whole start, with a program in the client's place; the secrets go to its input and nowhere else."""
    notes, program, state = tmp_path / "notes", tmp_path / "bin/docker", tmp_path / "state/reviewer-00000"
    for folder in (notes, program.parent, state / "home", state / "workspace"):
        folder.mkdir(parents=True)
    program.write_text(ENGINE.replace("$NOTES", str(notes)))
    program.chmod(0o755)
    (state / "authorities.pem").write_text("public\n")
    environment = {
        "PATH": f"{program.parent}:{os.environ['PATH']}",
        "HOME": str(tmp_path),
        "TOKEN": CREDENTIAL,
    }
    start(plan(asked(state), facts), environment, state)
    words = "".join(path.read_text() for path in notes.iterdir())
    assert "claude-bottle-reviewer-00000" in words
    assert "claude-bottle-sidecars-reviewer-00000" in words
    told = (tmp_path / "told").read_bytes()
    for secret in (PRIVATE, CREDENTIAL):
        assert secret.encode() in told
        assert secret not in words
        assert secret not in "".join(path.read_text() for path in (state / "run").rglob("*.json"))


def asked(state: Path) -> BottleRequest:
    grants = [grant._replace(source=grant.source.replace(STATE, str(state))) for grant in request().grants]
    assert AUTHORITIES in [grant.target for grant in grants]
    return request()._replace(paths=BottlePaths(state), grants=tuple(grants))


def start(found: DockerPlan, environment: Mapping[str, str], state: Path) -> None:
    launching = Launching(found, SystemRunner(environment), environment)
    envoy = EnvoyFiles("/no/envoy", str(state / "authorities.pem"))
    try:
        launching.start(Secrets({"KEY": PRIVATE}), envoy, Bundle(), lambda *_: None)
        launching.keep()
    except BottleError as error:
        pytest.fail(f"the start did not go through: {error.message}")
    finally:
        launching.abandon()
