"""The plan for an engine: what it asks for is golden, and what the engine cannot do is refused, never done more weakly."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from claude_bottle.backend.base import NODE_HOME, WORKSPACE, BottleRequest, Grant
from claude_bottle.backend.docker.bodies import SESSIONS, Names, Share
from claude_bottle.backend.docker.engine import EngineFacts
from claude_bottle.backend.docker.plan import PROXY_NAMES, DockerPlan, plan_bottle
from claude_bottle.errors import UsageError
from claude_bottle.manifest.model import Limits
from claude_bottle.policy.model import Policy, Route, Upstream
from tests.support.plans import GIB, STATE, request

GOLDEN = Path(__file__).parent / "golden"
UPDATE = bool(os.environ.get("UPDATE_GOLDEN"))
LOCAL = EngineFacts(
    endpoint="unix:///var/run/docker.sock",
    version="28.2.2",
    machine="x86_64",
    system="Debian GNU/Linux 12 (bookworm)",
    local=True,
    seccomp=True,
    limits=True,
    release="6.1.0-35-amd64",
    kernel="linux",
)
REMOTE = LOCAL._replace(endpoint="ssh://far.example.org", local=False)
NAMES = Names("reviewer-00000", "0123456789ab")
IMAGES = ("claude-bottle/agent:aaaa", "claude-bottle/bundle:bbbb")
OPERATOR = 1000
GVISOR = LOCAL._replace(gvisor=("--host-uds=open", "--oci-seccomp"))
LIMITS = Limits(memory=2 * GIB, cpus=1.5, pids=200, disk=5 * GIB, wall_time=3600)
MODEL = Route("model.example.org", upstream=Upstream("http", "127.0.0.1", 11434))


def plan(
    asked: BottleRequest,
    facts: EngineFacts = LOCAL,
    *,
    operator: int = OPERATOR,
    missing: tuple[str, ...] = (),
) -> DockerPlan:
    return plan_bottle(asked, facts, NAMES, IMAGES, missing, operator)


def with_route(route: Route) -> BottleRequest:
    return request()._replace(policy=Policy((route,)))


def clone(place: Path, *, mode: int = 0o755) -> BottleRequest:
    """A clone that reads the project's own objects."""
    objects = place / "project/.git/objects"
    objects.mkdir(parents=True)
    objects.chmod(mode)
    return request(Grant(str(objects), "/opt/objects/0"))


def bind(place: Path) -> BottleRequest:
    folder = place / "project"
    folder.mkdir()
    if os.geteuid() == 0:
        os.chown(folder, OPERATOR, OPERATOR)
    return request(workspace=Grant(str(folder), WORKSPACE, writable=True, owned_by_operator=True))


def bound(place: Path) -> DockerPlan:
    asked = bind(place)
    return plan(asked, operator=owner(place))


def owner(place: Path) -> int:
    return (place / "project").stat().st_uid


PLANS: dict[str, Callable[[Path], DockerPlan]] = {
    "local": lambda place: plan(clone(place)),
    "local-root": lambda place: plan(clone(place), operator=0, missing=IMAGES),
    "remote": lambda place: plan(clone(place), REMOTE),
    "limits": lambda _: plan(request(limits=LIMITS)),
    "no-limits": lambda _: plan(request(limits=Limits(wall_time=60)), LOCAL._replace(limits=False)),
    "bind": bound,
    "host-network": lambda _: plan(with_route(MODEL)),
    "gvisor": lambda place: plan(clone(place)._replace(runtime="runsc"), GVISOR),
}


def as_text(found: DockerPlan) -> str:
    """Everything that a launch would do."""
    said = {
        "bottle": found.agent_body("FILTER"),
        "sidecars": found.sidecars_body(),
        "poured in": [f"{tree.source} -> {tree.name}" for tree in found.trees()],
        "copied in": [f"{grant.source} -> {grant.target}" for grant in found.copies],
        "user": found.uid,
        "held by": found.protections(),
        "note": found.caveats(),
    }
    return json.dumps(said, indent=1, sort_keys=True) + "\n"


@pytest.mark.parametrize("name", PLANS)
def test_the_plan_is_the_golden_one(name: str, tmp_path: Path) -> None:
    """UPDATE_GOLDEN=1 writes the files anew; then look at the difference."""
    golden = GOLDEN / f"{name}.json"
    found = PLANS[name](tmp_path)
    text = as_text(found).replace(str(tmp_path), "/srv/operator")
    text = re.sub(rf"\b{found.uid}\b", str(OPERATOR), text)  # of whoever runs this, where it must be an owner
    if UPDATE:
        golden.write_text(text)
    assert text == golden.read_text()


def test_there_is_no_golden_file_too_many() -> None:
    assert {path.stem for path in GOLDEN.iterdir()} == set(PLANS)


def test_the_same_request_gives_the_same_plan(tmp_path: Path) -> None:
    asked = clone(tmp_path)
    assert plan(asked) == plan(asked)
    assert as_text(plan(asked)) == as_text(plan(asked))


def test_an_overlay_is_refused_on_every_engine() -> None:
    grant = Grant("/srv/p", WORKSPACE, True, owned_by_operator=True, overlay=f"{STATE}/overlay")
    for facts in (LOCAL, REMOTE):
        with pytest.raises(UsageError, match="overlay workspace") as caught:
            plan(request(workspace=grant), facts)
        assert caught.value.hint == "use clone or copy"


def test_a_bind_is_refused_where_the_engine_sees_other_files(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="bind workspaces with an engine that does not see"):
        plan(bind(tmp_path), REMOTE, operator=owner(tmp_path))


def test_a_bind_of_what_is_anothers_is_refused_also_to_root(tmp_path: Path) -> None:
    asked = bind(tmp_path)
    for operator in (owner(tmp_path) + 1, 0 if owner(tmp_path) != 1000 else 1001):
        with pytest.raises(UsageError, match="does not belong to user"):
            plan(asked, operator=operator)


def test_a_bind_by_root_of_roots_own_folder_is_refused(tmp_path: Path) -> None:
    """As the bottle's programs are never root's."""
    asked = bind(tmp_path)
    if os.geteuid() == 0:
        os.chown(tmp_path / "project", 0, 0)
        with pytest.raises(UsageError, match="does not belong to user 1000"):
            plan(asked, operator=0)
    else:
        assert plan(asked, operator=owner(tmp_path)).uid == owner(tmp_path)


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.9.10", "::1", "localhost", "model.localhost"])
def test_this_hosts_loopback_needs_this_hosts_engine(host: str) -> None:
    asked = with_route(Route("model.example.org", upstream=Upstream("http", host, 80)))
    assert plan(asked).network == "host"
    assert any("share the host's network" in line for line in plan(asked).caveats())
    with pytest.raises(UsageError, match="loopback, and the engine is elsewhere") as caught:
        plan(asked, REMOTE)
    assert "host.docker.internal" in (caught.value.hint or "")


@pytest.mark.parametrize(
    "host", ["10.0.0.1", "192.168.1.2", "fd00::1", "localhost.example.org", "notlocalhost"]
)
def test_only_the_loopback_takes_the_hosts_network(host: str) -> None:
    asked = with_route(Route("model.example.org", upstream=Upstream("http", host, 80)))
    assert {plan(asked, facts).network for facts in (LOCAL, REMOTE)} == {"bridge"}


@pytest.mark.parametrize("limits", [Limits(memory=GIB), Limits(pids=9), Limits(cpus=0.5), LIMITS], ids=str)
def test_a_limit_that_the_engine_has_not_is_refused(limits: Limits) -> None:
    with pytest.raises(UsageError, match="cannot limit"):
        plan(request(limits=limits), LOCAL._replace(limits=False))
    plan(request(limits=limits))


def test_what_does_not_hold_is_never_shown_as_holding() -> None:
    bare = plan(request(), LOCAL._replace(limits=False))
    assert "limits: none" in bare.protections()[-1]
    assert not {"PidsLimit", "Memory", "MemorySwap", "NanoCpus"} & bare.agent_body("")["HostConfig"].keys()
    assert "4096 processes" in plan(request()).protections()[-1]
    assert any("no disk limit" in line for line in plan(request(limits=LIMITS)).caveats())


@pytest.mark.parametrize(("mode", "mine"), [(0o755, False), (0o700, True), (0o700, False), (0o750, False)])
def test_what_the_bottle_could_not_read_is_copied(tmp_path: Path, mode: int, mine: bool) -> None:
    asked = clone(tmp_path, mode=mode)
    uid = (tmp_path / "project/.git/objects").stat().st_uid
    if mine and uid == 0:
        uid = OPERATOR
        os.chown(tmp_path / "project/.git/objects", uid, uid)
    found = plan(asked, operator=uid if mine else uid + 1)
    shown = mine or mode == 0o755
    assert [share.target for share in found.shares] == (["/opt/objects/0"] if shown else [])
    assert [grant.target for grant in found.copies] == ([] if shown else ["/opt/objects/0"])


def test_a_remote_engine_is_shown_no_path_of_this_host(tmp_path: Path) -> None:
    found = plan(clone(tmp_path), REMOTE)
    assert found.shares == ()
    text = json.dumps([found.agent_body("FILTER"), found.sidecars_body()])
    assert not [word for word in (STATE, str(tmp_path), '"bind"') if word in text]


@given(st.sampled_from([0, 1, 501, 1000, 65534]), st.booleans())
def test_nothing_runs_as_root(operator: int, local: bool) -> None:
    found = plan(request(), LOCAL if local else REMOTE, operator=operator)
    assert 0 not in (found.uid, found.bundle_uid)
    assert found.uid != found.bundle_uid or (local and operator)


def test_an_images_own_proxies_are_overruled() -> None:
    """An image may bring proxies, and passwords in them, for every container that names none."""
    for body in (plan(request()).agent_body(""), plan(request()).sidecars_body()):
        assert {f"{name}=" for name in PROXY_NAMES} <= set(body["Env"])
    ours = request()._replace(environment=(("HTTPS_PROXY", "http://127.0.0.1:9099"),))
    words = plan(ours).agent_body("")["Env"]
    assert "HTTPS_PROXY=http://127.0.0.1:9099" in words
    assert "HTTPS_PROXY=" not in words


def test_what_is_written_by_the_bottle_is_poured_in_and_never_shared(tmp_path: Path) -> None:
    found = plan(clone(tmp_path))
    assert [tree.name for tree in found.trees()] == [".", "workspace"]
    assert {share.writable for share in found.shares} == {False}


def test_only_a_bound_workspace_is_written_in_place(tmp_path: Path) -> None:
    found = bound(tmp_path)
    assert [(share.target, share.writable) for share in found.shares] == [(WORKSPACE, True)]
    assert [tree.name for tree in found.trees()] == ["."]


def test_the_limits_are_those_that_were_asked_for() -> None:
    """A swap of the memory's size is none at all: the engine counts both together."""
    host = plan(request(limits=LIMITS)).agent_body("")["HostConfig"]
    asked = {"Memory": 2 * GIB, "MemorySwap": 2 * GIB, "PidsLimit": 200, "NanoCpus": 1_500_000_000}
    assert {name: host[name] for name in asked} == asked
    assert plan(request()).agent_body("")["HostConfig"]["PidsLimit"] == 4096
    assert plan(request(limits=LIMITS)).agent_body("")["Cmd"][2] == "3600"
    assert plan(request()).agent_body("")["Cmd"][2] == "0"


def test_the_folder_for_sessions_lies_where_no_agent_can_move_it() -> None:
    """A mount on the next start would follow a link that was left in the home, to wherever it leads."""
    found = plan(request())
    assert found.sessions == Share(f"{STATE}/sessions", SESSIONS, writable=True)
    assert not SESSIONS.startswith(NODE_HOME)
    assert plan(request(), REMOTE).sessions is None
