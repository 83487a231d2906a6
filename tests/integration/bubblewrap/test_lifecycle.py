"""Sudden deaths: whoever is killed, and whenever, nothing is left running and nothing is left open."""

from __future__ import annotations

import os
import shutil
import signal
import socket
from contextlib import suppress
from functools import partial
from pathlib import Path

import pytest

from claude_bottle.backend import enumerate_active_agents, load_backend
from claude_bottle.backend.bubblewrap.bottle import stop_keeper
from claude_bottle.backend.bubblewrap.entry import read_facts
from claude_bottle.backend.bubblewrap.lock import lock_holder
from claude_bottle.errors import BottleError
from claude_bottle.operations import launch as launching
from claude_bottle.operations.launch import Launched, revive
from claude_bottle.operations.prepare import prepare_again
from claude_bottle.state import store
from tests.support.bottles import (
    KEY,
    MARKER,
    World,
    decisions,
    no_progress,
    nobody_asks,
    python_inside,
    shell_inside,
)
from tests.support.keepers import envoy_of, groups_of, keeper_of, kill
from tests.support.processes import alive, descendants, eventually, running_with

pytestmark = pytest.mark.needs("bubblewrap", "envoy", "claude")

API = "curl -sS -o /dev/null -w '%{http_code}' --max-time 10 https://api.anthropic.com/v1/models"
REFUSED_BY_POLICY = "403"  # what the policy says to this path, so an answer without any internet


def is_gone(world: World, launched: Launched) -> bool:
    return (
        not running_with(launched.metadata.slug)
        and load_backend("bubblewrap").find(launched.metadata, launched.paths) is None
    )


def test_when_the_keeper_is_killed_everything_of_the_bottle_ends(world: World) -> None:
    launched = world.launch()
    shell_inside(launched.bottle, "setsid sleep 8888 </dev/null >/dev/null 2>&1 &")
    keeper = keeper_of(launched)
    everything = descendants(keeper)
    assert len(everything) >= 6, "keeper, bottle, its program, Envoy and what holds it"
    kill(keeper)
    assert eventually(lambda: not alive(everything)), alive(everything)
    assert eventually(lambda: is_gone(world, launched))
    assert enumerate_active_agents(world.home.state) == []
    with pytest.raises(BottleError, match="not running"):
        launched.bottle.copy_in(b"x", "/tmp/x")
    launched.bottle.stop()
    load_backend("bubblewrap").discard(launched.metadata, launched.paths)
    assert eventually(lambda: not groups_of(launched.metadata.slug))


def _is_refused(place: str) -> bool:
    with socket.socket(socket.AF_UNIX) as client:
        return client.connect_ex(place) != 0


def test_when_the_keeper_is_killed_the_way_out_is_closed(world: World) -> None:
    """For a program that was already talking, too: it ends with the bottle, and its connection before that."""
    launched = world.launch()
    keeper = keeper_of(launched)
    sockets = [f"{launched.paths.run}/egress/{name}" for name in ("envoy.sock", "authz.sock")]
    folder = os.open(launched.paths.run / "egress", os.O_RDONLY)
    kill(keeper)
    assert eventually(lambda: is_gone(world, launched))
    for path in sockets:
        place = f"/proc/self/fd/{folder}/{os.path.basename(path)}"
        assert eventually(partial(_is_refused, place))
    os.close(folder)
    launched.bottle.stop()


def test_the_gate_listens_in_the_bottle_and_nowhere_else(world: World) -> None:
    with world.bottle() as launched:
        listening = Path("/proc/net/tcp").read_text() + Path("/proc/net/tcp6").read_text()
        gate = f":{9099:04X} "
        assert gate not in listening
        assert gate in launched.bottle.exec(["cat", "/proc/net/tcp"]).text


def test_a_killed_envoy_comes_back_and_nothing_passes_meanwhile(world: World) -> None:
    with world.bottle() as launched:
        assert shell_inside(launched.bottle, API).text == REFUSED_BY_POLICY
        first = envoy_of(launched)
        assert first is not None
        kill(first)
        seen = set()

        def back() -> bool:
            seen.add(shell_inside(launched.bottle, API).text)
            return envoy_of(launched) not in (None, first) and REFUSED_BY_POLICY in seen

        assert eventually(back)
        assert seen <= {REFUSED_BY_POLICY, "000"}, "it was refused, or it failed"
        assert any(line.get("event") == "sidecar-ended" for line in decisions(launched))


def test_an_envoy_that_keeps_ending_ends_the_bottle(world: World) -> None:
    launched = world.launch()
    keeper = keeper_of(launched)
    everything = descendants(keeper)

    def kill_the_next() -> bool:
        if lock_holder(str(launched.paths.run)) == 0:
            return True
        envoy = envoy_of(launched)
        if envoy is not None:
            kill(envoy)
        return False

    assert eventually(kill_the_next, 60)
    assert eventually(lambda: not alive(everything))
    assert eventually(lambda: is_gone(world, launched))
    assert "Envoy keeps ending" in (launched.paths.logs / "bundle.log").read_text()
    launched.bottle.stop()


def test_a_bottle_that_gets_no_sidecars_is_not_left(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """bubblewrap runs already while the certificates are made."""
    prepared = world.prepare()
    slug, seen = prepared.metadata.slug, dict[int, str]()

    def runs() -> bool:
        seen.update(descendants(os.getpid()))
        return any(b"echo ready; read end" in cmdline(pid) for pid in seen)

    def fails(*_: object) -> None:
        assert eventually(runs)
        raise BottleError("no certificates today")

    monkeypatch.setattr(launching, "_bundle", fails)
    with pytest.raises(BottleError, match="no certificates today"):
        launching.launch(world.context, prepared, no_progress, nobody_asks)
    assert eventually(lambda: set(alive(seen)) == {os.getpid()})
    assert not running_with(slug)
    assert not groups_of(slug)
    assert not prepared.paths.root.exists()


def cmdline(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ")
    except OSError:
        return b""


def test_envoy_is_confined(world: World) -> None:
    """It reads bytes of the agent and of servers: it has no network, no file and no privilege of the host."""
    with world.bottle() as launched:
        envoy = envoy_of(launched)
        assert envoy is not None
        status = dict(
            line.split(":", 1)
            for line in Path(f"/proc/{envoy}/status").read_text().splitlines()
            if ":" in line
        )
        for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"):
            assert int(status[name], 16) == 0, name
        assert status["NoNewPrivs"].strip() == "1"
        for kind in ("net", "pid", "mnt", "ipc", "user"):
            assert os.readlink(f"/proc/{envoy}/ns/{kind}") != os.readlink(f"/proc/self/ns/{kind}"), kind
        devices = Path(f"/proc/{envoy}/net/dev").read_text().splitlines()[2:]
        assert [line.split(":")[0].strip() for line in devices] == ["lo"]
        if os.geteuid() == 0:
            assert os.stat(f"/proc/{envoy}").st_uid not in (0, os.stat(launched.paths.home).st_uid)
        listing = set(os.listdir(f"/proc/{envoy}/root"))
        assert listing <= {
            "usr",
            "bin",
            "sbin",
            "lib",
            "lib32",
            "lib64",
            "libx32",
            "proc",
            "dev",
            "run",
            "opt",
        }
        assert os.listdir(f"/proc/{envoy}/root/run") == ["egress"]


def test_the_anchor_that_is_killed_inside_ends_the_bottle(world: World) -> None:
    launched = world.launch()
    everything = descendants(keeper_of(launched))
    with suppress(BottleError):  # the bottle may end before its program is seen to
        python_inside(launched.bottle, "import os; os.kill(-1, 9)")
    assert eventually(lambda: is_gone(world, launched))
    assert eventually(lambda: not alive(everything))
    launched.bottle.stop()


def test_its_wall_time_ends_it(world: World) -> None:
    world.declare({"limits": {"wall_time": "1s"}})
    launched = world.launch()
    assert eventually(lambda: is_gone(world, launched))
    assert "wall time" in (launched.paths.logs / "bundle.log").read_text()
    launched.bottle.stop()


def test_a_second_start_of_the_same_bottle_is_refused_and_harms_nothing(world: World) -> None:
    with world.bottle() as launched:
        keeper = keeper_of(launched)
        with pytest.raises(BottleError, match="runs already"):
            revive(world.context, prepare_again(world.context, launched.metadata), no_progress, nobody_asks)
        assert keeper_of(launched) == keeper
        assert (
            shell_inside(launched.bottle, "echo x > ~/new && echo x > new && echo x > /tmp/new").status == 0
        )
        assert shell_inside(launched.bottle, API).text == REFUSED_BY_POLICY


def test_stop_insists_where_the_keeper_does_not_hear(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    from claude_bottle.backend.bubblewrap import bottle as bottles

    launched = world.launch()
    monkeypatch.setattr(bottles, "_STOP_SECONDS", 1.0)
    keeper = keeper_of(launched)
    everything = descendants(keeper)
    os.kill(keeper, signal.SIGSTOP)
    stop_keeper(str(launched.paths.run))
    assert eventually(lambda: not alive(everything))
    launched.bottle.stop()


@pytest.mark.parametrize("ending", ["stop", "kill"])
def test_no_group_of_the_kernel_is_left(world: World, ending: str) -> None:
    world.declare({"limits": {"memory": "512M", "pids": 50}})
    launched = world.launch()
    slug = launched.metadata.slug
    assert sorted(map(str, groups_of(slug))) == sorted(launched_groups(launched))
    if ending == "kill":
        kill(keeper_of(launched))
        assert eventually(lambda: is_gone(world, launched))
    launched.bottle.stop()
    load_backend("bubblewrap").discard(launched.metadata, launched.paths)
    assert eventually(lambda: not groups_of(slug))
    store.remove(launched.paths)


def launched_groups(launched: Launched) -> tuple[str, ...]:
    """What the keeper wrote down; none where the host has no group to give."""
    return read_facts(str(launched.paths.run)).cgroups


def test_no_secret_lies_in_the_state_folder_or_in_an_argument(world: World) -> None:
    world.declare({"env": {"GIVEN": "${OPERATOR_MARKER}"}})
    with world.bottle() as launched:
        assert launched.bottle.exec(["printenv", "GIVEN"]).text.strip() == MARKER, "it was asked for"
        secrets = [KEY.encode(), MARKER.encode()]
        for path in launched.paths.root.rglob("*"):
            if path.is_file() and not path.is_symlink():
                content = path.read_bytes()
                assert not any(secret in content for secret in secrets), path
        for pid in descendants(keeper_of(launched)):
            arguments = Path(f"/proc/{pid}/cmdline").read_bytes()
            assert not any(secret in arguments for secret in secrets), arguments


def test_when_the_state_folder_vanishes_the_bottle_ends(world: World) -> None:
    launched = world.launch()
    everything = descendants(keeper_of(launched))
    shutil.rmtree(launched.paths.root, ignore_errors=True)
    assert eventually(lambda: not alive(everything), 30), alive(everything)


def test_several_starts_at_once_all_come_up(world: World) -> None:
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(3) as pool:
        launched = list(pool.map(lambda _: world.launch(), range(3)))
    try:
        names = {python_inside(item.bottle, "print('up')").text for item in launched}
        assert names == {"up\n"}
        assert len(enumerate_active_agents(world.home.state)) == 3
    finally:
        for item in launched:
            item.bottle.stop()
