"""What Envoy is started with before there is a bottle: the same for every one, so no plan is needed.

Invariant: nothing here is a secret, and nothing depends on what the operator's manifest says.
"""

from __future__ import annotations

import json

from claude_bottle.backend.base import EnvoyFiles
from claude_bottle.backend.bubblewrap.argv import staged_argv
from claude_bottle.backend.bubblewrap.plan import EnvoyPlan
from claude_bottle.backend.bubblewrap.stage import to_json
from claude_bottle.backend.python import PACKAGE_ROOT
from claude_bottle.sidecars.egress.envoy_start import (
    CLUSTERS_FILE,
    ENVOY_CONFIG,
    ENVOY_LOG,
    LISTENERS_FILE,
    envoy_bootstrap,
)


def envoy_argv(plan: EnvoyPlan, files: EnvoyFiles) -> list[str]:
    argv, stage = plan.command(files)
    return staged_argv(PACKAGE_ROOT, json.dumps(to_json(stage)), argv) if stage.needed else argv


def envoy_start(plan: EnvoyPlan, cradle: str, files: EnvoyFiles) -> dict[str, object]:
    """The first line for the keeper."""
    empty: dict[str, object] = {"resources": []}
    return {
        "cradle": cradle,
        "files": {ENVOY_CONFIG: envoy_bootstrap(), CLUSTERS_FILE: empty, LISTENERS_FILE: empty},
        "argv": envoy_argv(plan, files),
        "uid": plan.uid,
        "log": ENVOY_LOG,
    }
