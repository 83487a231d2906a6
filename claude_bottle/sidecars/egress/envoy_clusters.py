"""Envoy's way to the dialler: clusters of unix sockets, and the TLS that is spoken through them.

Invariant: no address but a unix socket in the working directory; a certificate is always verified, and
for the name that was judged or that the operator wrote.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from claude_bottle.policy.hosts import parse_ip
from claude_bottle.policy.model import Upstream
from claude_bottle.sidecars.egress.envoy_start import cluster, endpoint, typed
from claude_bottle.sidecars.egress.outlets import Outlet

if TYPE_CHECKING:
    from claude_bottle.sidecars.egress.envoy_start import Json

INTERNET = "internet"
ROOM = 64  # outlets


def upstream_clusters(outlets: Iterable[Outlet], ca_bundle: str) -> list[Json]:
    """One cluster for all that is dialled by its own name, one for each `upstream`.

    The shared one loads the host's authorities once; for each host that would cost 5 ms and 0.3 MB.
    """
    own: list[Json] = []
    internet: list[Outlet] = []
    for outlet in outlets:
        upstream = outlet.target.upstream
        if upstream is None:
            internet.append(outlet)
        else:
            own.append(_upstream_cluster(outlet, upstream, ca_bundle))
    return [_internet_cluster(max((outlet.number for outlet in internet), default=0), ca_bundle), *own]


def _internet_cluster(highest: int, ca_bundle: str) -> Json:
    """SNI, and the name that the certificate must bear, come from the judged Host, which equals the SNI.

    The route picks the socket; without a match there is no fallback to another one. There is room for
    outlets that are to come, so that a new host leaves the cluster, and the connections in it, as they are.
    """
    names = [f"up-{number}" for number in range((highest // ROOM + 1) * ROOM)]
    endpoints = [{**endpoint(f"{name}.sock"), "metadata": _metadata(name)} for name in names]
    made = cluster(INTERNET, endpoints, auto_sni=True, auto_san_validation=True)
    made["lb_subset_config"] = {
        "fallback_policy": "NO_FALLBACK",
        "subset_selectors": [{"keys": ["outlet"], "single_host_per_subset": True}],
    }
    made["transport_socket"] = _upstream_tls({"trusted_ca": {"filename": ca_bundle}})
    return made


def _upstream_cluster(outlet: Outlet, upstream: Upstream, ca_bundle: str) -> Json:
    made = cluster(outlet.name, [endpoint(outlet.socket)])
    if upstream.scheme == "https":
        is_name = parse_ip(upstream.host) is None
        san = {"san_type": "DNS" if is_name else "IP_ADDRESS", "matcher": {"exact": upstream.host}}
        validation = {"trusted_ca": {"filename": ca_bundle}, "match_typed_subject_alt_names": [san]}
        made["transport_socket"] = _upstream_tls(validation, sni=upstream.host if is_name else "")
    return made


def _upstream_tls(validation: Json, sni: str = "") -> Json:
    context = {
        "tls_params": {"tls_minimum_protocol_version": "TLSv1_2"},
        "alpn_protocols": ["http/1.1"],
        "validation_context": validation,
    }
    tls = typed("transport_sockets.tls.v3.UpstreamTlsContext", sni=sni, common_tls_context=context)
    return {"name": "envoy.transport_sockets.tls", "typed_config": tls}


def outlet_metadata(outlet: Outlet) -> Json:
    return _metadata(outlet.name)


def _metadata(name: str) -> Json:
    return {"filter_metadata": {"envoy.lb": {"outlet": name}}}


def upstream_authority(upstream: Upstream) -> str:
    authority = str(upstream).partition("://")[2]
    default = ":443" if upstream.scheme == "https" else ":80"
    return authority.removesuffix(default)
