"""What a bundle is started with, and its form on the pipe that carries it.

Invariant: it holds the credentials, so it goes through a pipe and nowhere else.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from claude_bottle.policy.live import LivePolicy, LiveRoute, live_from_json, live_to_json
from claude_bottle.policy.model import Policy
from claude_bottle.policy.proposals import Queue
from claude_bottle.policy.proposals_json import queue_from_json, queue_to_json
from claude_bottle.policy.snapshot import policy_from_json, policy_to_json
from claude_bottle.sidecars.egress.certs import CertAndKey


class BundleSpec(NamedTuple):
    """Everything of one bundle. `credentials` are by `str(SecretRef)`."""

    policy: Policy
    leaves: Mapping[str, CertAndKey]
    credentials: Mapping[str, str]
    envoy: tuple[str, ...]  # the whole command, as the backend confines it
    envoy_uid: int | None  # the host identity that Envoy runs as, where it is another one
    authorities: str  # what upstream servers are checked by, as Envoy sees the path
    decisions: str
    services: str  # where the bundle says which services are up
    supervised: bool = True  # whether the agent may propose changes
    patience: float | None = None  # seconds for which a proposal waits for an answer; None is for ever
    authority: CertAndKey | None = None  # the bottle's own, so that it can sign for hosts that are added
    grants: tuple[LiveRoute, ...] = ()  # approved in an earlier life, and still good
    control: str = ""  # where the operator's process finds the bundle; see `control`. Empty: nowhere
    control_uid: int = 0  # who that is, as the bundle's own kernel numbers users
    proposals: str = ""  # where the queue is kept
    queue: Queue = Queue()
    supervise: int | None = None  # the port at which its agent may propose changes, where it may

    def __repr__(self) -> str:
        return f"<{len(self.leaves)} leaves, {len(self.credentials)} credentials, {len(self.grants)} grants>"


def spec_to_json(spec: BundleSpec) -> dict[str, object]:
    return {
        "policy": policy_to_json(spec.policy),
        "leaves": {name: [leaf.cert_pem, leaf.key_pem] for name, leaf in spec.leaves.items()},
        "credentials": dict(spec.credentials),
        "envoy": list(spec.envoy),
        "envoy_uid": spec.envoy_uid,
        "authorities": spec.authorities,
        "decisions": spec.decisions,
        "services": spec.services,
        "supervised": spec.supervised,
        "patience": spec.patience,
        "authority": spec.authority and [spec.authority.cert_pem, spec.authority.key_pem],
        "grants": live_to_json(LivePolicy(spec.grants)),
        "control": spec.control,
        "control_uid": spec.control_uid,
        "proposals": spec.proposals,
        "queue": queue_to_json(spec.queue),
        "supervise": spec.supervise,
    }


def spec_from_json(obj: Mapping[str, Any]) -> BundleSpec:
    """Raises KeyError, TypeError or ValueError for anything but what `spec_to_json` makes."""
    return BundleSpec(
        policy=policy_from_json(obj["policy"]),
        leaves={name: CertAndKey(cert, key) for name, (cert, key) in obj["leaves"].items()},
        credentials=dict(obj["credentials"]),
        envoy=tuple(obj["envoy"]),
        envoy_uid=obj["envoy_uid"],
        authorities=obj["authorities"],
        decisions=obj["decisions"],
        services=obj["services"],
        supervised=obj["supervised"] is True,
        patience=None if obj["patience"] is None else float(obj["patience"]),
        authority=obj["authority"] and CertAndKey(*obj["authority"]),
        grants=live_from_json(obj["grants"]).routes,
        control=obj["control"],
        control_uid=obj["control_uid"],
        proposals=obj["proposals"],
        queue=queue_from_json(obj["queue"]),
        supervise=obj["supervise"],
    )
