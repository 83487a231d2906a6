"""The operator's declaration as frozen data: what bottles there are, and which agents run in them.

Invariant: a Manifest is complete and consistent. Inheritance is already folded, every agent's
bottle is a key of `bottles`, and no value needs another check. None means "decided at launch".
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, is_dataclass, replace
from types import MappingProxyType

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
    "Upstream",
    "digest_of",
    "resolved_digest",
]

WORKSPACES = ("clone", "overlay", "copy", "bind", "none")


@dataclass(frozen=True, slots=True)
class EnvValue:
    """kind "literal": the value; "host": the host variable's name; "ask": the question (may be empty)."""

    kind: str
    value: str


@dataclass(frozen=True, slots=True)
class BottleEgress:
    """Where a bottle may go; `allowlist` entries have become bare routes."""

    routes: tuple[Route, ...] = ()


@dataclass(frozen=True, slots=True)
class SshEntry:
    """One SSH destination; the names are those of ssh_config."""

    host: str
    identity_file: str
    hostname: str | None = None
    user: str | None = None
    port: int = 22
    known_host_key: str | None = None


@dataclass(frozen=True, slots=True)
class GitRepo:
    """A repository behind the git gate. `refs` are what the agent may push: none, if empty."""

    url: str
    identity: str | None = None
    host_key: str | None = None
    refs: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class GitUser:
    """Who commits are by; each part may be left to the launch."""

    name: str | None = None
    email: str | None = None

    def overlaid(self, over: GitUser) -> GitUser:
        return GitUser(over.name or self.name, over.email or self.email)


@dataclass(frozen=True, slots=True)
class Git:
    repos: Mapping[str, GitRepo] = field(default_factory=lambda: MappingProxyType({}))
    user: GitUser = GitUser()


@dataclass(frozen=True, slots=True)
class Limits:
    """memory and disk in bytes, wall_time in seconds; None is no limit of the operator's."""

    memory: int | None = None
    cpus: float | None = None
    pids: int | None = None
    disk: int | None = None
    wall_time: int | None = None


@dataclass(frozen=True, slots=True)
class Bottle:
    """A bottle with its inheritance folded in. `extends` says what it was folded from."""

    name: str
    env: Mapping[str, EnvValue] = field(default_factory=lambda: MappingProxyType({}))
    egress: BottleEgress = BottleEgress()
    ssh: tuple[SshEntry, ...] = ()
    git: Git = field(default_factory=Git)
    workspace: str | None = None
    supervise: bool = True
    limits: Limits = Limits()
    image: str | None = None
    dockerfile: str | None = None
    packages: tuple[str, ...] = ()
    extends: tuple[str, ...] = ()
    origin: str = ""

    @property
    def anonymous(self) -> bool:
        """Made for an agent that lists several bottles; the operator never named it."""
        return "+" in self.name


@dataclass(frozen=True, slots=True)
class Agent:
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


@dataclass(frozen=True, slots=True)
class Manifest:
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
        return replace(bottle, git=replace(bottle.git, user=bottle.git.user.overlaid(agent.git_user)))


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
    if is_dataclass(value):
        return {
            item.name: _plain(getattr(value, item.name)) for item in fields(value) if item.name != "origin"
        }
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (tuple, list)):
        return [_plain(item) for item in value]
    if value is None or isinstance(value, (str, bool, int, float)):
        return value
    raise TypeError(f"{type(value).__name__} has no canonical form")
