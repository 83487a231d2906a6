"""The plan: its mounts never give a bubblewrap with CVE-2026-87766 a chance, and its text is golden."""

from __future__ import annotations

import os
import sys
from pathlib import Path, PurePosixPath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from claude_bottle.backend.base import NODE_HOME, WORKSPACE, BottleRequest, EnvoyFiles, Grant
from claude_bottle.backend.bubblewrap.argv import (
    bwrap_arguments,
    enter_argv,
    staged_argv,
)
from claude_bottle.backend.bubblewrap.host import HostFacts
from claude_bottle.backend.bubblewrap.launch import mount_points_within
from claude_bottle.backend.bubblewrap.plan import BubblewrapPlan, plan_bottle
from claude_bottle.backend.bubblewrap.stage import STAGE, Source, Stage, from_json, to_json
from claude_bottle.backend.python import python_argv
from claude_bottle.errors import BottleError
from claude_bottle.manifest.model import Limits
from tests.support.plans import BIND, DEBIAN, GIB, OVERLAY, ROOT, STATE, request

GOLDEN = Path(__file__).parent / "golden"
UPDATE = bool(os.environ.get("UPDATE_GOLDEN"))
ENVOY = EnvoyFiles("/srv/tools/envoy", "/etc/ssl/certs/ca-certificates.crt")
SOCKETS = f"{STATE}/run/egress"

PLANS = {
    "user": plan_bottle(request(), DEBIAN, 5),
    "root": plan_bottle(request(limits=Limits(memory=2 * GIB, pids=200, wall_time=3600)), ROOT, 5),
    "user-overlay": plan_bottle(request(workspace=OVERLAY), DEBIAN, 5),
    "root-overlay": plan_bottle(request(workspace=OVERLAY), ROOT, 5),
    "root-bind": plan_bottle(request(workspace=BIND), ROOT, 5),
    "user-clone": plan_bottle(request(Grant("/srv/p/.git/objects", "/opt/objects/0")), DEBIAN, 5),
}


def as_text(plan: BubblewrapPlan) -> str:
    """Everything that a launch would do, a line an option."""
    lines = ["bottle"]
    for argument in bwrap_arguments(plan.mounts, "bottle", plan.request.environment):
        lines.append(f"  {argument}" if argument.startswith("--") else f"    {argument!r}")
    command, stage = plan.envoy.command(ENVOY)
    lines += ["envoy", *(f"  {argument}" for argument in command)]
    for name, staged in (("bottle", plan.stage), ("envoy", stage)):
        lines.append(f"stage of {name}: uid {staged.uid}, {'needed' if staged.needed else 'not needed'}")
        lines += [f"  {source}" for source in staged.sources]
    lines += ["groups", *(f"  {group}" for group in plan.limits.groups)]
    lines += ["writes", *(f"  {path} = {value}" for path, value in plan.limits.writes)]
    lines += ["rlimits", *(f"  {name} {value}" for name, value in plan.limits.rlimits)]
    lines += ["held by", *(f"  {line}" for line in plan.protections())]
    lines += ["note", *(f"  {line}" for line in plan.caveats())]
    return "\n".join(lines) + "\n"


@pytest.mark.parametrize("name", PLANS)
def test_the_plan_is_the_golden_one(name: str) -> None:
    """UPDATE_GOLDEN=1 writes the files anew; then look at the difference."""
    golden = GOLDEN / f"{name}.txt"
    text = as_text(PLANS[name])
    if UPDATE:
        golden.write_text(text)
    assert text == golden.read_text()


def test_there_is_no_golden_file_too_many() -> None:
    assert {path.stem for path in GOLDEN.iterdir()} == set(PLANS)


SEGMENTS = st.sampled_from(["a", "b", "workspace", "data"])
BELOW_HOME = st.lists(SEGMENTS, min_size=1, max_size=3).map(lambda parts: "/".join((NODE_HOME, *parts)))
TARGETS = st.one_of(
    BELOW_HOME,
    st.lists(SEGMENTS, min_size=1, max_size=3).map(lambda parts: "/opt/" + "/".join(parts)),
    st.lists(SEGMENTS, min_size=1, max_size=2).map(lambda parts: "/tmp/" + "/".join(parts)),
)
MORE = st.lists(
    st.builds(Grant, source=st.just("/srv/x"), target=TARGETS, writable=st.booleans()),
    max_size=5,
    unique_by=lambda grant: grant.target,
)
HOSTS = st.sampled_from([DEBIAN, ROOT])
WORKSPACES = st.sampled_from([None, OVERLAY, BIND])
REQUESTS = st.builds(lambda more, work: request(*more, workspace=work), MORE, WORKSPACES)


@given(REQUESTS, HOSTS)
def test_every_mount_point_in_a_folder_that_the_bottle_writes_is_a_child_of_it_and_checked(
    asked: BottleRequest, facts: HostFacts
) -> None:
    plan = plan_bottle(asked, facts, 1)
    writable = {grant.target for grant in plan.request.grants if grant.writable}
    inside = {
        (str(parent), mount.target)
        for mount in plan.mounts
        for parent in PurePosixPath(mount.target).parents
        if str(parent) in writable
    }
    try:
        checked = mount_points_within(plan.request.grants)
    except BottleError as error:
        assert "too deep" in error.message
        assert any(str(PurePosixPath(target).parent) != outer for outer, target in inside)
        return
    assert inside == {(outer.target, inner.target) for outer, inner in checked}
    assert all(str(PurePosixPath(target).parent) == outer for outer, target in inside)


@given(REQUESTS, HOSTS)
def test_an_outer_folder_is_mounted_before_what_lies_in_it(asked: BottleRequest, facts: HostFacts) -> None:
    targets = [mount.target for mount in plan_bottle(asked, facts, 1).mounts if mount.kind != "remount-ro"]
    for index, target in enumerate(targets):
        later = targets[index + 1 :]
        covered = [str(parent) for parent in PurePosixPath(target).parents if str(parent) in later]
        assert covered == [], f"{target} would be covered by {covered}"


@given(REQUESTS, HOSTS)
def test_as_root_every_source_is_staged_and_the_bottle_is_nobody(
    asked: BottleRequest, facts: HostFacts
) -> None:
    plan = plan_bottle(asked, facts, 1)
    granted = [mount for mount in plan.mounts if mount.kind in ("bind", "ro-bind")]
    of_state = [mount.source for mount in granted if mount.source.startswith(("/srv", STATE))]
    assert (plan.stage.uid is not None) == facts.root
    if plan.stage.needed:
        assert of_state == []
        staged = [mount.source for mount in granted if mount.source.startswith(f"{STAGE}/")]
        assert staged == [f"{STAGE}/{index}" for index in range(len(plan.stage.sources))]
        shown = [source.path for source in plan.stage.sources]
        assert shown == [grant.source for grant in plan.request.grants]
    else:
        assert plan.stage.sources == ()
        assert set(of_state) == {item.source for item in plan.request.grants}


@given(REQUESTS, HOSTS)
def test_only_what_was_granted_can_be_written(asked: BottleRequest, facts: HostFacts) -> None:
    plan = plan_bottle(asked, facts, 1)
    writable = {mount.target for mount in plan.mounts if mount.kind == "bind"}
    assert writable == {grant.target for grant in asked.grants if grant.writable} | {"/tmp"}
    assert [mount.target for mount in plan.mounts if mount.kind == "remount-ro"] == ["/dev", "/"]
    assert plan.mounts[-1].target == "/"


@pytest.mark.parametrize("name", PLANS)
def test_nothing_of_the_host_is_shown_that_was_not_granted(name: str) -> None:
    plan = PLANS[name]
    sources = {mount.source for mount in plan.mounts if mount.kind in ("bind", "ro-bind") and mount.source}
    ours = {grant.source for grant in plan.request.grants}
    rest = {source for source in sources - ours if not source.startswith(f"{STAGE}/")}
    assert rest == {
        "/usr",
        "/dev/null",
        "/proc/sys",
        "/etc/alternatives",
        "/etc/ld.so.cache",
        "/etc/localtime",
    }


@pytest.mark.parametrize("name", PLANS)
def test_every_namespace_and_privilege_is_taken(name: str) -> None:
    for arguments in (
        bwrap_arguments(PLANS[name].mounts, "bottle", ()),
        PLANS[name].envoy.command(ENVOY)[0],
    ):
        for namespace in ("user", "ipc", "pid", "net", "uts", "cgroup"):
            assert f"--unshare-{namespace}" in arguments
        for option in ("--disable-userns", "--die-with-parent", "--new-session", "--clearenv"):
            assert option in arguments
        assert arguments[arguments.index("--cap-drop") + 1] == "ALL"
        assert not {"--share-net", "--cap-add", "--dev-bind", "--unshare-user-try"} & set(arguments)


def test_the_environment_is_cleared_before_it_is_set() -> None:
    arguments = bwrap_arguments((), "bottle", (("A", "1"), ("B", ""), ("C", "--bind / /")))
    assert arguments.index("--clearenv") < arguments.index("--setenv")
    assert arguments[-2:] == ["--chdir", "/home/node"]
    index = arguments.index("C")
    assert arguments[index - 1 : index + 2] == ["--setenv", "C", "--bind / /"]


def test_each_bottle_has_a_host_identity_of_its_own() -> None:
    first, second = (plan_bottle(request(), ROOT, number) for number in (0, (1 << 20) - 1))
    identities = {first.stage.uid, second.stage.uid, first.envoy.uid, second.envoy.uid}
    assert len(identities) == 4
    assert all(identity and 0x70000000 <= identity < 0x7FFFFFFF for identity in identities)
    assert plan_bottle(request(), DEBIAN, 0).envoy.uid is None


def test_limits_are_shown_and_carried() -> None:
    plan = PLANS["root"]
    assert plan.limits.wall_time == 3600
    assert "2048 MiB memory" in plan.protections()[-1]
    assert any("no memory limit" in caveat for caveat in PLANS["user"].caveats())
    assert not any("no memory limit" in caveat for caveat in plan.caveats())


def test_the_hole_of_an_old_bubblewrap_is_named() -> None:
    assert any("CVE-2026-87766" in caveat for caveat in PLANS["user"].caveats())
    assert not any("CVE" in caveat for caveat in PLANS["root"].caveats())


@given(
    st.builds(
        Stage,
        st.lists(
            st.builds(Source, st.text(), st.booleans(), st.one_of(st.none(), st.text())), max_size=3
        ).map(tuple),
        st.one_of(st.none(), st.integers()),
    )
)
def test_a_stage_survives_its_json(stage: Stage) -> None:
    import json

    assert from_json(json.loads(json.dumps(to_json(stage)))) == stage


def test_the_framing_is_isolated_and_ends_before_the_inner_command() -> None:
    argv = enter_argv(
        "/srv/package", "/srv/run", ["sh", "-c", "claude || true", "-t"], tty=True, directory="/x"
    )
    assert argv[1:4] == ["-I", "-S", "-c"]
    assert argv[-4:] == ["sh", "-c", "claude || true", "-t"]
    assert argv[argv.index("--") - 4 : argv.index("--")] == ["/srv/run", "-t", "-w", "/x"]
    quiet = enter_argv("/srv/package", "/srv/run", ["id"], tty=False, directory=WORKSPACE)
    assert "-t" not in quiet


@pytest.mark.parametrize("module", ["enter", "keeper", "stage"])
def test_what_is_started_exists_and_needs_nothing_but_the_standard_library(module: str) -> None:
    from importlib import import_module

    import_module(f"claude_bottle.backend.bubblewrap.{module}").start  # noqa: B018
    argv = python_argv(f"backend.bubblewrap.{module}", str(Path(__file__).parents[4]))
    assert os.path.isabs(argv[0])
    assert "site-packages" not in argv[0]
    code = argv[4].partition("; from")[0] + f"; import claude_bottle.backend.bubblewrap.{module}"
    import subprocess

    done = subprocess.run([*argv[:4], code, argv[5]], capture_output=True, text=True, env={}, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_what_is_staged_is_run_by_a_bare_interpreter() -> None:
    argv = staged_argv("/p", "{}", ["/bin/true"])
    assert argv[-3:] == ["/p", "{}", "/bin/true"]
    assert argv[0] == getattr(sys, "_base_executable", sys.executable)


def test_an_unfit_host_is_a_mistake_of_the_caller() -> None:
    with pytest.raises(AssertionError):
        plan_bottle(request(), DEBIAN._replace(bwrap=None), 0)
