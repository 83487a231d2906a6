"""Bottles of the Docker backend: start, entry, stop, memory; beside bare containers.

The baseline of a start is two containers that do nothing, made one after the other from the same images.
"""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from bench.children import whole_process
from bench.figures import Figure, compared, in_turn, part
from bench.lab import Lab
from bench.memory import Weight, weigh
from bench.operator import Start

_SETTLE = 1.5  # seconds after which nothing of a start is left
_IDLE = ("sleep", "1000")
_REMOVE = ("docker", "rm", "--force")


def start(lab: Lab) -> Iterator[Figure]:
    """The whole `start AGENT --detach --yes`, against two bare containers in sequence."""
    owner = lab.containers
    starts: list[Start] = []

    def bottle() -> float:
        made = owner.start()
        owner.stop(made.slug)
        starts.append(made)
        return made.seconds * 1000

    def bare() -> float:
        began = time.perf_counter()
        with bare_containers(images):
            return (time.perf_counter() - began) * 1000

    with owner.running() as slug:
        images = images_of(slug)
    pairs = in_turn(bottle, bare, rounds=10, seconds=40)
    yield compared("start.docker", "ms", pairs)
    measured = [dict(made.steps) for made in starts[-len(pairs) :]]
    for name in measured[0]:
        yield part(f"start.docker.{name}", "ms", [steps[name] * 1000 for steps in measured if name in steps])


def execute(lab: Lab) -> Iterator[Figure]:
    """`exec SLUG -- true`, against `docker exec` of `true` in the same bottle."""
    with lab.containers.running() as slug:
        bare = ["docker", "exec", "--interactive", f"claude-bottle-{slug}", "true"]
        pairs = in_turn(
            lambda: lab.containers.seconds_of("exec", slug, "--", "true") * 1000,
            lambda: whole_process(bare) * 1000,
            rounds=20,
            seconds=10,
        )
    yield compared("exec.docker", "ms", pairs)


def stop(lab: Lab) -> Iterator[Figure]:
    """`stop SLUG`, its work handed over; against two `docker rm --force` in sequence."""
    owner = lab.containers

    def bottle() -> float:
        slug = owner.start().slug
        return owner.seconds_of("stop", slug) * 1000

    def bare() -> float:
        with bare_containers(images) as names:
            began = time.perf_counter()
            for name in names:
                whole_process(["docker", "rm", "--force", name])
            return (time.perf_counter() - began) * 1000

    with owner.running() as slug:
        images = images_of(slug)
    yield compared("stop.docker", "ms", in_turn(bottle, bare, rounds=8, seconds=30))


def idle(lab: Lab) -> Iterator[Figure]:
    """The memory that one idle bottle adds (PSS, with its shims), against two bare containers."""
    weights: list[dict[str, float]] = []

    def bottle() -> float:
        with lab.containers.running() as slug:
            time.sleep(_SETTLE)
            found = {role: weigh_container(name_of(role, slug)) for role in ("agent", "sidecars")}
        weights.append({role: weight.total for role, weight in found.items()})
        return sum(weights[-1].values())

    def bare() -> float:
        with bare_containers(images) as names:
            return sum(weigh_container(name).total for name in names)

    with lab.containers.running() as slug:
        images = images_of(slug)
    yield compared("memory.idle.docker", "MB", in_turn(bottle, bare, rounds=3, seconds=20))
    for role in ("agent", "sidecars"):
        yield part(f"memory.idle.docker.{role}", "MB", [found[role] for found in weights])


def name_of(role: str, slug: str) -> str:
    return f"claude-bottle-{slug}" if role == "agent" else f"claude-bottle-sidecars-{slug}"


def images_of(slug: str) -> list[str]:
    return [str(inspected(name_of(role, slug))["Config"]["Image"]) for role in ("agent", "sidecars")]


def inspected(container: str) -> dict[str, dict[str, object]]:
    argv = ["docker", "container", "inspect", container]
    found = json.loads(subprocess.run(argv, capture_output=True, check=True).stdout)
    return dict(found[0])


def weigh_container(name: str) -> Weight:
    """All that descends from what the engine started for it."""
    first = int(str(inspected(name)["State"]["Pid"]))
    with open(f"/proc/{first}/status") as file:
        shim = next(int(line.split()[1]) for line in file if line.startswith("PPid"))
    return weigh(shim)


@contextmanager
def bare_containers(images: list[str]) -> Iterator[list[str]]:
    """One of each image, without network, one after the other."""
    with ExitStack() as stack:
        names = []
        for image in images:
            argv = ["docker", "run", "--detach", "--network", "none", image, *_IDLE]
            name = subprocess.run(argv, capture_output=True, check=True, text=True).stdout.strip()
            stack.callback(
                subprocess.run, ["docker", "rm", "--force", name], capture_output=True, check=False
            )
            names.append(name)
        yield names
