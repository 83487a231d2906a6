"""What bottles leave at the engine when their end was no end in order, and how it goes.

Rule: a container belongs to a bottle that runs, or it goes; a volume belongs to a state folder, or it goes.
"""

from __future__ import annotations

from collections.abc import Sequence

from claude_bottle.backend.base import Remain
from claude_bottle.backend.docker.argv import LABEL
from claude_bottle.backend.docker.engine import docker
from claude_bottle.backend.docker.enumerate import Container, containers, is_whole
from claude_bottle.backend.docker.launch import remove_containers
from claude_bottle.errors import BottleError
from claude_bottle.proc import Runner
from claude_bottle.state.paths import is_slug


def observe_remains(runner: Runner, home: str, known: frozenset[str]) -> list[Remain]:
    """`known` are the slugs that have a state folder. Raises BottleError."""
    return judge(containers(runner, home), _volumes(runner, home), known)


def judge(
    found: Sequence[Container], volumes: Sequence[tuple[str, str]], known: frozenset[str]
) -> list[Remain]:
    """Pure. `volumes` are (name, slug)."""
    remains = []
    for item in found:
        whole = is_whole(other for other in found if other.slug == item.slug)
        if item.slug not in known:
            remains.append(Remain("container", item.name, item.slug, "its bottle has no state"))
        elif not whole:
            remains.append(Remain("container", item.name, item.slug, "its bottle does not run"))
    for name, slug in volumes:
        if slug not in known:
            remains.append(Remain("volume", name, slug, "its bottle has no state"))
    return remains


def _volumes(runner: Runner, home: str) -> list[tuple[str, str]]:
    form = f'{{{{.Name}}}}\t{{{{.Label "{LABEL}.slug"}}}}'
    question = docker("volume", "ls", "--filter", f"label={LABEL}.home={home}", "--format", form, timeout=10)
    done = runner.run(question)
    if done.status != 0:
        raise BottleError(f"the engine does not say which volumes it has: {done.complaint}")
    found = []
    for line in done.text.splitlines():
        name, _, slug = line.partition("\t")
        if not is_slug(slug) or not name.startswith(f"claude-bottle-{slug}"):
            raise BottleError("the engine lists volumes in a form that is not known")
        found.append((name, slug))
    return found


def remove_remains(runner: Runner, remains: Sequence[Remain]) -> None:
    """Containers first: they hold the volumes. Raises BottleError."""
    remove_containers(runner, [item.name for item in remains if item.kind == "container"])
    volumes = [item.name for item in remains if item.kind == "volume"]
    if not volumes:
        return
    done = runner.run(docker("volume", "rm", "--force", *volumes))
    if done.status != 0:
        raise BottleError(f"volumes cannot be removed: {done.complaint}")
