"""The proof that a bottle holds, taken from inside it before anybody uses it.

Invariant: an answer that is missing, malformed or late is a failed check.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import NamedTuple

from claude_bottle.backend.base import GATE_PORT, Bottle
from claude_bottle.backend.probe import salted
from claude_bottle.errors import BottleError
from claude_bottle.policy.model import Policy
from claude_bottle.text import shown

_SECONDS = 30.0


class Check(NamedTuple):
    name: str
    ok: bool
    detail: str


def prove(
    bottle: Bottle, policy: Policy, authority: str, secret_values: tuple[str, ...]
) -> tuple[Check, ...]:
    """Raises BottleError with every check that failed."""
    questions = json.dumps(_questions(policy, authority, secret_values)).encode()
    done = bottle.probe(questions, _SECONDS)
    if done.status != 0:
        raise BottleError(f"the bottle could not be proved: {shown(done.complaint)}")
    try:
        checks = tuple(
            Check(str(item["check"]), item["ok"] is True, str(item["detail"]))
            for item in json.loads(done.stdout)
        )
    except (ValueError, KeyError, TypeError) as error:
        raise BottleError("the bottle could not be proved: the probe's answer is no answer") from error
    failed = [f"{check.name}: {shown(check.detail)}" for check in checks if not check.ok]
    if failed or len(checks) < 6:
        raise BottleError(f"the bottle does not hold: {'; '.join(failed) or 'checks are missing'}")
    return checks


def _questions(policy: Policy, authority: str, secret_values: tuple[str, ...]) -> dict[str, object]:
    salt = os.urandom(16).hex()
    exact = [route for route in policy.routes if route.inspect and not route.host.startswith("*")]
    return {
        "gate": ["127.0.0.1", GATE_PORT],
        "allowed": {"host": exact[0].host, "port": exact[0].ports[0]} if exact else None,
        "authority": authority,
        "home": _home(),
        "salt": salt,
        "secrets": [salted(salt, value) for value in secret_values],
    }


def _home() -> dict[str, object]:
    """The operator's home as it must not be seen inside; one that is not there cannot be."""
    path = Path.home()
    try:
        found = path.stat()
    except FileNotFoundError:
        return {"path": str(path), "device": -1, "inode": -1}
    return {"path": str(path), "device": found.st_dev, "inode": found.st_ino}
