"""The files that tell Envoy what to serve, in whatever order it comes to read them."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from claude_bottle.policy.model import Policy, Route, Upstream
from claude_bottle.sidecars.egress.certs import make_ca, make_leaves
from claude_bottle.sidecars.egress.envoy import LISTENER_SOCKET, envoy_listeners, envoy_ways
from claude_bottle.sidecars.egress.envoy_start import (
    CLUSTERS_FILE,
    LISTENERS_FILE,
    envoy_argv,
    envoy_bootstrap,
)
from claude_bottle.sidecars.egress.outlets import inspected_chains

from .conftest import listens, wait_until

POLICY = Policy((Route("api.example.org", upstream=Upstream("http", "127.0.0.1", 9)),))


@pytest.mark.needs("envoy")
def test_listeners_that_are_read_before_the_clusters_are_served(envoy_binary: Path, tmp_path: Path) -> None:
    """Both are replaced while Envoy comes up; it may see the new listeners with the old clusters."""
    ca = make_ca("bottle")
    (tmp_path / "ca.pem").write_text(ca.cert_pem)
    (tmp_path / "envoy.json").write_text(json.dumps(envoy_bootstrap()))
    (tmp_path / CLUSTERS_FILE).write_text('{"resources": []}')
    leaves = make_leaves(ca, [chain.host for chain in inspected_chains(POLICY)])
    (tmp_path / LISTENERS_FILE).write_text(json.dumps(envoy_listeners(envoy_ways(POLICY, leaves))))
    argv = envoy_argv(str(envoy_binary), "envoy.json")
    with subprocess.Popen(argv, cwd=tmp_path, stderr=subprocess.DEVNULL) as process:
        try:
            wait_until(lambda: listens(tmp_path / LISTENER_SOCKET), "Envoy to listen")
        finally:
            process.kill()
