"""The operator's declaration as frozen data: what bottles there are, and which agents run in them.

Invariant: a Manifest is complete and consistent. Inheritance is already folded, every agent's
bottle is a key of `bottles`, and no value needs another check. None means "decided at launch".
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

from claude_bottle.policy.model import Auth, Route, SecretRef, Upstream

__all__ = [
    "Agent",
    "Auth",
    "Bottle",
    "BottleEgress",
    "EnvValue",
    "Git",
    "GitRepo",
    "GitUser",
    "Limits",
    "Manifest",
    "Route",
    "SecretRef",
    "SshEntry",
    "Supervise",
    "Upstream",
    "digest_of",
    "resolved_digest",
]

WORKSPACES = ("clone", "overlay", "copy", "bind", "none")
RUNTIMES = ("runsc",)
WAIT, REJECT = "wait", "reject"
_NOTHING: Mapping[str, Any] = MappingProxyType({})


class EnvValue(NamedTuple):
    """kind "literal": the value; "host": the host variable's name; "ask": the question (may be empty)."""

    kind: str
    value: str


class BottleEgress(NamedTuple):
    """Where a bottle may go; `allowlist` entries have become bare routes."""

    routes: tuple[Route, ...] = ()


class SshEntry(NamedTuple):
    """One SSH destination; the names are those of ssh_config."""

    host: str
    identity_file: str
    hostname: str | None = None
    user: str | None = None
    port: int = 22
    known_host_key: str | None = None


class GitRepo(NamedTuple):
    """A repository behind the git gate. `refs` are what the agent may push: none, if empty."""

    url: str
    identity: str | None = None
    host_key: str | None = None
    refs: tuple[str, ...] = ()


class GitUser(NamedTuple):
    """Who commits are by; each part may be left to the launch."""

    name: str | None = None
    email: str | None = None

    def overlaid(self, over: GitUser) -> GitUser:
        return GitUser(over.name or self.name, over.email or self.email)


class Git(NamedTuple):
    repos: Mapping[str, GitRepo] = _NOTHING
    user: GitUser = GitUser()


class Limits(NamedTuple):
    """memory and disk in bytes, wall_time in seconds; None is no limit of the operator's."""

    memory: int | None = None
    cpus: float | None = None
    pids: int | None = None
    disk: int | None = None
    wall_time: int | None = None


class Supervise(NamedTuple):
    """Whether the agent may propose changes; true where it may.

    `unanswered` is what becomes of a proposal that nobody answers: None leaves it to the command, WAIT waits,
    REJECT refuses it `after` so many seconds, at once where that is None. `notify` is the operator's command
    that tells of one.
    """

    allowed: bool = True
    unanswered: str | None = None
    after: int | None = None
    notify: tuple[str, ...] | None = None

    def __bool__(self) -> bool:
        return self.allowed

    @property
    def patience(self) -> float | None:
        """Seconds for which a proposal waits; None is for ever, or for the command to say."""
        return float(self.after or 0) if self.unanswered == REJECT else None

    def overlaid(self, over: Supervise) -> Supervise:
        """`over` laid over this; what is unanswered and after when are one setting."""
        waits = over if over.unanswered is not None else self
        return Supervise(over.allowed, waits.unanswered, waits.after, over.notify or self.notify)


class Bottle(NamedTuple):
    """A bottle with its inheritance folded in. `extends` says what it was folded from."""

    name: str
    env: Mapping[str, EnvValue] = _NOTHING
    egress: BottleEgress = BottleEgress()
    ssh: tuple[SshEntry, ...] = ()
    git: Git = Git()
    workspace: str | None = None
    supervise: Supervise = Supervise()
    limits: Limits = Limits()
    image: str | None = None
    dockerfile: str | None = None
    packages: tuple[str, ...] = ()
    runtime: str | None = None
    extends: tuple[str, ...] = ()
    origin: str = ""

    @property
    def anonymous(self) -> bool:
        """Made for an agent that lists several bottles; the operator never named it."""
        return "+" in self.name


class Agent(NamedTuple):
    """A named purpose. `display_name` to `tools` are Claude Code's own subagent keys, kept as written."""

    name: str
    bottle: str
    prompt: str = ""
    skills: tuple[str, ...] = ()
    git_user: GitUser = GitUser()
    display_name: str | None = None
    description: str | None = None
    model: str | None = None
    color: str | None = None
    memory: str | None = None
    tools: tuple[str, ...] = ()
    origin: str = ""


class Manifest(NamedTuple):
    """All bottles and agents by name."""

    bottles: Mapping[str, Bottle]
    agents: Mapping[str, Agent]

    @classmethod
    def from_json_obj(cls, obj: object) -> Manifest:
        """Read `{"bottles": {...}, "agents": {...}}`; raises ManifestError with every problem at once."""
        from claude_bottle.manifest.parse import parse_manifest

        return parse_manifest(obj)

    def bottle_of(self, agent_name: str) -> Bottle:
        """The bottle as this agent gets it: its own git user overlaid. KeyError if there is no such agent."""
        agent = self.agents[agent_name]
        bottle = self.bottles[agent.bottle]
        return bottle._replace(git=bottle.git._replace(user=bottle.git.user.overlaid(agent.git_user)))


def resolved_digest(manifest: Manifest, agent_name: str) -> str:
    """sha256 over what one agent resolves to; where it was written does not count."""
    return digest_of([manifest.bottle_of(agent_name), manifest.agents[agent_name]])


def digest_of(value: object) -> str:
    """sha256 over the canonical JSON: keys sorted, `origin` left out."""
    import hashlib
    import json

    text = json.dumps(_plain(value), sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def _plain(value: object) -> object:
    if isinstance(value, tuple) and (names := getattr(value, "_fields", ())):
        return {name: _plain(getattr(value, name)) for name in names if name != "origin"}
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (tuple, list)):
        return [_plain(item) for item in value]
    if value is None or isinstance(value, (str, bool, int, float)):
        return value
    raise TypeError(f"{type(value).__name__} has no canonical form")
