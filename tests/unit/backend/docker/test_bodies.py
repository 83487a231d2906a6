"""What an engine is asked for: every container is bare, no odd character changes the question, no secret is in any."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from claude_bottle.backend.base import NODE_HOME, WORKSPACE, Grant
from claude_bottle.backend.docker.bodies import (
    FILTER,
    HAND,
    KEEPER,
    PRIVATE,
    SESSIONS,
    Body,
    Share,
    inside,
    probe,
    program,
)
from claude_bottle.backend.docker.http import as_json
from claude_bottle.backend.docker.plan import DockerPlan
from claude_bottle.backend.seccomp import container_profile
from claude_bottle.errors import UsageError
from tests.support.plans import STATE, request
from tests.unit.backend.docker.test_plan import (
    IMAGES,
    LIMITS,
    MODEL,
    NAMES,
    REMOTE,
    bound,
    clone,
    plan,
    with_route,
)

HARD: Body = {
    "Init": True,
    "ReadonlyRootfs": True,
    "CapDrop": ["ALL"],
    "CgroupnsMode": "private",
    "IpcMode": "private",
    "RestartPolicy": {"Name": "no"},
}
# All that is ever asked for. Each other thing is the engine's default, or would open a way out or in.
KNOWN = {
    *("Image", "User", "Cmd", "Labels", "Env", "StopTimeout", "OpenStdin", "StdinOnce", "Hostname"),
    *("AttachStdin", "AttachStdout", "AttachStderr", "Tty", "HostConfig"),
}
KNOWN_HOST = {
    *HARD,
    *("LogConfig", "NetworkMode", "Dns", "SecurityOpt", "ShmSize", "Sysctls", "Tmpfs", "Mounts"),
    *("Memory", "MemorySwap", "PidsLimit", "NanoCpus"),
}
FILTER_TEXT = json.dumps(container_profile("x86_64"))
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


def sent(body: Body) -> Body:
    """As the engine reads it."""
    read = json.loads(as_json(body)[1])
    assert read == body
    return dict(read)


def bodies(found: DockerPlan) -> dict[str, Body]:
    return {"agent": sent(found.agent_body(FILTER_TEXT)), "sidecars": sent(found.sidecars_body())}


def test_every_container_is_bare(found: DockerPlan) -> None:
    for role, body in bodies(found).items():
        host = body["HostConfig"]
        assert {name: host[name] for name in HARD} == HARD, role
        assert "no-new-privileges" in host["SecurityOpt"]
        assert not [word for word in host["SecurityOpt"] if "unconfined" in word]
        assert body.keys() <= KNOWN
        assert host.keys() <= KNOWN_HOST
        assert body["User"].split(":")[0] not in ("", "0", "root")
        assert body["Tty"] is False


def test_the_bottle_has_no_network_and_a_filter_and_its_sidecars_nothing_of_another(
    found: DockerPlan,
) -> None:
    said = bodies(found)
    host = said["agent"]["HostConfig"]
    assert (host["NetworkMode"], host["Dns"], said["agent"]["User"]) == ("none", ["127.0.0.1"], KEEPER)
    (given,) = [word for word in host["SecurityOpt"] if word.startswith("seccomp=")]
    assert json.loads(given.removeprefix("seccomp=")) == container_profile("x86_64")
    assert host["Sysctls"] == {"net.ipv4.ping_group_range": "1 0"}
    assert said["sidecars"]["HostConfig"]["NetworkMode"] in ("bridge", "host")
    assert said["sidecars"]["HostConfig"]["Memory"] == 512 << 20
    assert [body["Image"] for body in said.values()] == list(IMAGES)
    assert "container:" not in json.dumps(said)


def test_a_container_ends_with_whoever_started_it(found: DockerPlan) -> None:
    """Its input ends with the first connection, and no other is ever its input."""
    for body in bodies(found).values():
        assert [body[name] for name in ("OpenStdin", "StdinOnce", "AttachStdin")] == [True] * 3


def test_what_is_mounted_is_what_was_granted_and_the_engines_socket_never_is(found: DockerPlan) -> None:
    granted = {*(grant.source for grant in found.request.grants), f"{STATE}/sessions"}
    own = {f"{STATE}/run/egress", str(found.request.paths.logs)}
    for role, body in bodies(found).items():
        mounts: list[Body] = body["HostConfig"]["Mounts"]
        assert {mount["Type"] for mount in mounts} <= {"bind", "volume"}
        binds = [mount for mount in mounts if mount["Type"] == "bind"]
        assert {mount["Source"] for mount in binds} <= (granted if role == "agent" else own)
        assert not [mount for mount in mounts if "docker.sock" in mount["Source"] + mount["Target"]]
        assert len({mount["Target"] for mount in mounts}) == len(mounts)
        written = {mount["Target"] for mount in binds if mount["ReadOnly"] is not True}
        if role == "agent":
            assert written - {SESSIONS} == {share.target for share in found.shares if share.writable}
            assert (SESSIONS in written) == found.facts.local
            assert {NODE_HOME, WORKSPACE, "/tmp", HAND} <= {mount["Target"] for mount in mounts}


def test_what_is_named_carries_the_labels_by_which_it_is_found_again(found: DockerPlan) -> None:
    marks = {"io.claude-bottle.home": NAMES.home_id, "io.claude-bottle.slug": NAMES.slug}
    volumes = set()
    for role, body in bodies(found).items():
        assert body["Labels"].items() >= (marks | {"io.claude-bottle.role": role}).items()
        for mount in body["HostConfig"]["Mounts"]:
            if mount["Type"] == "volume" and mount["Source"]:
                volumes.add(mount["Source"])
                assert mount["VolumeOptions"] == {"Labels": marks}
    assert volumes <= set(NAMES.volumes)
    assert len(set(NAMES.volumes)) == 3
    assert all(name.startswith(f"claude-bottle-{NAMES.slug}") for name in NAMES.volumes)


PATHS = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1).map(
    "/srv/{}".format
)


@given(PATHS, st.booleans())
@example('/srv/a,b "c" ,readonly,"', False)
@example("/srv/x,dst=/etc", False)
@example('/srv/x", "Type": "tmpfs', False)
@example("/srv/two\r\nlines", True)
@example("/srv/\u2028\x7f", True)
def test_no_character_of_a_path_becomes_another_wish(path: str, writable: bool) -> None:
    for share in (Share(path, "/opt/x", writable), Share("/srv/x", path, writable)):
        expected = {"Type": "bind", "Source": share.source, "Target": share.target, "ReadOnly": not writable}
        assert sent(share.mount()) == expected


@pytest.mark.parametrize("name", [b"a\r\nb", b"a,b\r\n", b"\xff", b"caf\xe9"])
def test_a_path_that_an_engine_cannot_keep_is_never_shared(tmp_path: Path, name: bytes) -> None:
    """It would find another folder, or none, when it reads its records again."""
    folder = tmp_path / name.decode(errors="surrogateescape")
    folder.mkdir()
    grant = Grant(str(folder), "/opt/objects/0")
    try:
        shares = plan(request(grant), operator=folder.stat().st_uid or 1000).shares
    except UsageError:
        return
    assert shares == ()


@pytest.mark.parametrize("name", ["A=B", "A", "", "A\nB"])
def test_a_variable_is_one_word_of_its_body(name: str) -> None:
    body = sent(plan(request()._replace(environment=((name, "x\ny=z"),))).agent_body(""))
    assert body["Env"][-1] == f"{name}=x\ny=z"


# Entering


def test_entering_frames_the_command_and_ends_before_it() -> None:
    command = ["sh", "-c", "claude || true", "-t", "--user", "root", "--", "-e", "x"]
    argv = inside(command, [("TERM", "xterm")], tty=True, directory="/x y")
    assert argv[-len(command) - 1 :] == ["--", *command]
    framing = argv[: -len(command) - 1]
    assert framing[:4] == ["/usr/bin/python3", "-I", "-S", "-c"]
    assert framing[-9:] == ["-t", "-w", "/x y", "-s", FILTER, "-e", PRIVATE, "-v", "TERM=xterm"]
    quiet = inside(["id"], (), tty=False, directory="/")
    assert not {"-t", "-v"} & set(quiet)
    assert quiet[quiet.index("-s") : quiet.index("-s") + 2] == ["-s", FILTER]


def test_the_probe_is_entered_as_any_program_is() -> None:
    asked = probe()
    inner = asked[asked.index("--") + 1 :]
    assert asked == inside(inner, (), tty=False, directory="/")
    assert "backend.probe" in inner[4]


def test_a_program_is_run_without_any_power() -> None:
    body = sent(program("node", iter(["id", "-u"])))
    assert body == {
        "User": "node",
        "Cmd": ["id", "-u"],
        "Tty": False,
        **dict.fromkeys(("AttachStdin", "AttachStdout", "AttachStderr"), True),
    }


def words(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for name, item in value.items():
            yield name
            yield from words(item)
    elif isinstance(value, list):
        for item in value:
            yield from words(item)


def test_a_container_elsewhere_is_told_no_path_of_this_host(tmp_path: Path) -> None:
    found = plan(clone(tmp_path), REMOTE)
    said = [*words(found.agent_body("")), *words(found.sidecars_body())]
    assert not [word for word in said if STATE in word or str(tmp_path) in word]
