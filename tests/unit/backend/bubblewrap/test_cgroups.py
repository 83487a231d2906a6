"""Limits: what holds on which kind of host, and that what is shown is what holds."""

from __future__ import annotations

import resource
from pathlib import Path

import pytest

from claude_bottle.backend.bubblewrap.cgroups import DEFAULT_PIDS, create, plan_limits, remains, remove
from claude_bottle.errors import BottleError
from claude_bottle.manifest.model import Limits

ALL = Limits(memory=1 << 30, cpus=1.5, pids=100, disk=1 << 20, wall_time=60)
SLUG = "reviewer-00000"


def first_kind(root: Path) -> tuple[tuple[str, str], ...]:
    return tuple((name, str(root / name)) for name in ("memory", "pids", "cpu"))


def unified(root: Path) -> tuple[tuple[str, str], ...]:
    (root / "cgroup.controllers").write_text("cpu memory pids\n")
    return tuple((name, str(root)) for name in ("memory", "pids", "cpu"))


def test_groups_of_the_first_kind(tmp_path: Path) -> None:
    plan = plan_limits(ALL, SLUG, first_kind(tmp_path))
    group = f"claude-bottle-{SLUG}"
    assert plan.groups == tuple(f"{tmp_path}/{name}/{group}" for name in ("memory", "pids", "cpu"))
    assert dict(plan.writes) == {
        f"{tmp_path}/pids/{group}/pids.max": "100",
        f"{tmp_path}/memory/{group}/memory.limit_in_bytes": str(1 << 30),
        f"{tmp_path}/cpu/{group}/cpu.cfs_period_us": "100000",
        f"{tmp_path}/cpu/{group}/cpu.cfs_quota_us": "150000",
    }
    assert dict(plan.rlimits) == {"RLIMIT_CORE": 0, "RLIMIT_FSIZE": 1 << 20}


def test_one_group_of_the_second_kind(tmp_path: Path) -> None:
    plan = plan_limits(ALL, SLUG, unified(tmp_path))
    group = f"{tmp_path}/claude-bottle-{SLUG}"
    assert plan.groups == (group,)
    assert dict(plan.writes) == {
        f"{group}/pids.max": "100",
        f"{group}/memory.max": str(1 << 30),
        f"{group}/memory.swap.max": "0",
        f"{group}/cpu.max": "150000 100000",
    }


def test_without_groups_the_operator_is_told() -> None:
    plan = plan_limits(ALL, SLUG, ())
    assert (plan.groups, plan.writes) == ((), ())
    assert dict(plan.rlimits) == {
        "RLIMIT_CORE": 0,
        "RLIMIT_NPROC": 100,
        "RLIMIT_DATA": 1 << 30,
        "RLIMIT_FSIZE": 1 << 20,
    }
    shown = "; ".join(plan.shown)
    assert "per process only" in shown
    assert "cpus: the limit of 1.5 does NOT hold" in shown


@pytest.mark.parametrize("grouped", [True, False])
def test_processes_are_always_limited(tmp_path: Path, grouped: bool) -> None:
    plan = plan_limits(Limits(), SLUG, first_kind(tmp_path) if grouped else ())
    values = [value for path, value in plan.writes if path.endswith("pids.max")]
    values += [str(value) for name, value in plan.rlimits if name == "RLIMIT_NPROC"]
    assert values == [str(DEFAULT_PIDS)]
    assert len(plan.shown) == 1


@pytest.mark.parametrize(
    "parents", [(), (("pids", "/g"),), (("pids", "/g"), ("memory", "/g"), ("cpu", "/g"))]
)
def test_every_limit_that_was_asked_for_is_shown(parents: tuple[tuple[str, str], ...]) -> None:
    shown = "\n".join(plan_limits(ALL, SLUG, parents).shown)
    for words in ("100 processes", "1024 MiB memory", "1.5", "1 MiB disk", "60 s"):
        assert words in shown


def test_every_rlimit_has_a_name_that_the_kernel_knows() -> None:
    for name, _ in plan_limits(ALL, SLUG, ()).rlimits:
        assert isinstance(getattr(resource, name), int)


def test_a_sliver_of_a_cpu_is_what_the_kernel_takes() -> None:
    plan = plan_limits(Limits(cpus=0.001), SLUG, (("cpu", "/g"),))
    assert ("/g/claude-bottle-reviewer-00000/cpu.cfs_quota_us", "1000") in plan.writes


def test_create_makes_the_groups_and_remove_takes_them_away(tmp_path: Path) -> None:
    for name in ("memory", "pids", "cpu"):
        (tmp_path / name).mkdir()
    plan = plan_limits(ALL, SLUG, first_kind(tmp_path))
    create(plan)
    assert (tmp_path / "pids" / f"claude-bottle-{SLUG}" / "pids.max").read_text() == "100"
    for folder in map(Path, plan.groups):  # the kernel's files vanish with their group
        for file in folder.iterdir():
            file.unlink()
    assert set(remains(SLUG, str(tmp_path))) == set(plan.groups)
    remove(plan.groups)
    remove(plan.groups)
    assert remains(SLUG, str(tmp_path)) == ()


def test_a_group_that_cannot_be_made_stops_the_launch(tmp_path: Path) -> None:
    (tmp_path / "memory").mkdir()
    plan = plan_limits(ALL, SLUG, first_kind(tmp_path))
    with pytest.raises(BottleError, match="cannot limit"):
        create(plan)
    assert list((tmp_path / "memory").iterdir()) == []


def test_a_limit_that_cannot_be_set_stops_the_launch(tmp_path: Path) -> None:
    for name in ("memory", "pids", "cpu"):
        (tmp_path / name).mkdir()
    plan = plan_limits(ALL, SLUG, first_kind(tmp_path))
    gone = plan.__class__(plan.groups, (("/nonexistent/pids.max", "1"),), (), (), None)
    with pytest.raises(BottleError, match="cannot limit"):
        create(gone)
    assert remains(SLUG, str(tmp_path)) == ()


def test_groups_that_a_killed_keeper_left_are_no_hindrance(tmp_path: Path) -> None:
    plan = plan_limits(Limits(pids=10), SLUG, (("pids", str(tmp_path)),))
    (tmp_path / f"claude-bottle-{SLUG}").mkdir()
    create(plan)
    assert Path(plan.writes[0][0]).read_text() == "10"


def test_a_group_with_somebody_in_it_is_not_taken_over(tmp_path: Path) -> None:
    plan = plan_limits(Limits(pids=10), SLUG, (("pids", str(tmp_path)),))
    occupied = tmp_path / f"claude-bottle-{SLUG}" / "occupied"
    occupied.mkdir(parents=True)
    with pytest.raises(BottleError, match="cannot limit"):
        create(plan)
    assert occupied.is_dir()


def test_remains_are_those_of_the_very_slug(tmp_path: Path) -> None:
    for name in ("claude-bottle-a-00000", "claude-bottle-a-000001", "x-claude-bottle-a-00000"):
        (tmp_path / "pids" / name).mkdir(parents=True)
    assert remains("a-00000", str(tmp_path)) == (str(tmp_path / "pids" / "claude-bottle-a-00000"),)
