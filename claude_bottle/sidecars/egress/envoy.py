"""Envoy's configuration for one bottle, as a pure function of the policy.

Invariant: Envoy holds no secret but the leaves' key, knows no address but unix sockets in its own
working directory, and sends nothing upstream that the authorization server has not allowed as is:
the path is normalized (or refused) before it is judged and never changed after.

Ports: TLS does not say to which port a client thinks it talks; Host does. Envoy chooses the upstream
socket by the port in Host (443 where it names none), and that same port is what is judged.
An `upstream` gets its own name and port as Host; any other target keeps the Host that was judged.
"""

from __future__ import annotations

import os
import zlib
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from claude_bottle.errors import BottleError
from claude_bottle.sidecars.egress.envoy_clusters import (
    INTERNET,
    outlet_metadata,
    upstream_authority,
    upstream_clusters,
)
from claude_bottle.sidecars.egress.envoy_start import BUFFER_BYTES, typed
from claude_bottle.sidecars.egress.outlets import Chain, Outlet, inspected_chains, outlets_of

if TYPE_CHECKING:
    from claude_bottle.policy.model import Policy, Route
    from claude_bottle.sidecars.egress.certs import CertAndKey
    from claude_bottle.sidecars.egress.envoy_start import Json

LISTENER_SOCKET = "envoy.sock"
ACCESS_LOG = "envoy-access.log"
PROBE_PATH = "/.claude-bottle/probe"
MARK_HEADER, EARLY = "x-claude-bottle-ways", "early-"
ALWAYS_INJECTED = ("authorization", "x-api-key")  # whatever the first policy says: see `Ways`
SNI_HEADER, PEER_HEADER = "x-claude-bottle-sni", "x-claude-bottle-peer"
REMOVE_HEADER = "x-envoy-auth-headers-to-remove"

AUTHZ_TIMEOUT = "5s"
# Claude Code gives a silent stream up after 300 s itself; nobody here may be less patient.
STREAM_IDLE = "900s"
HEADERS_TIMEOUT = "30s"
MAX_HEADERS_KB = 60
MAX_HEADERS = 100
MAX_STREAMS = 100

# What Envoy adds of its own accord, or what a client could use to steer Envoy or to pose as a proxy.
_NEVER_UPSTREAM = (
    SNI_HEADER,
    PEER_HEADER,
    "forwarded",
    "proxy-authorization",
    REMOVE_HEADER,
    "x-envoy-external-address",
    "x-envoy-internal",
    "x-forwarded-for",
    "x-forwarded-host",
    "x-forwarded-proto",
)
_ACCESS_LOG_FIELDS = {
    "start": "%START_TIME%",
    "connection": "%CONNECTION_ID%",
    "sni": "%REQUESTED_SERVER_NAME%",
    "authority": "%REQ(:AUTHORITY):255%",
    "method": "%REQ(:METHOD):32%",
    "path": "%PATH(NQ:PATH):1024%",  # a query may carry what the agent believes to be a secret
    "status": "%RESPONSE_CODE%",
    "flags": "%RESPONSE_FLAGS%",
    "details": "%RESPONSE_CODE_DETAILS%",
    "bytes_in": "%BYTES_RECEIVED%",
    "bytes_out": "%BYTES_SENT%",
    "ms": "%DURATION%",
    "upstream": "%UPSTREAM_HOST%",
    "upstream_failure": "%UPSTREAM_TRANSPORT_FAILURE_REASON%",
}


def find_envoy(environ: Mapping[str, str] = os.environ) -> Path | None:
    """$CLAUDE_BOTTLE_ENVOY, the one that was installed as a Python package, `envoy` on PATH, or None."""
    import site

    chosen = environ.get("CLAUDE_BOTTLE_ENVOY")
    if chosen is not None:
        if not Path(chosen).is_file() or not os.access(chosen, os.X_OK):
            raise BottleError(f"CLAUDE_BOTTLE_ENVOY names no program: {chosen}")
        return Path(chosen).absolute()
    # Not by sys.path: with `python -m` that begins with the working directory, which may be anybody's.
    for folder in site.getsitepackages():
        packaged = Path(folder, "envoy", "_bin", "envoy")
        if os.access(packaged, os.X_OK):
            return packaged
    import shutil

    found = shutil.which("envoy", path=environ.get("PATH"))
    return None if found is None else Path(found).absolute()


class Ways(NamedTuple):
    """All that the two files depend on. A chain that stays as it was keeps its connections."""

    chains: tuple[Chain, ...] = ()
    leaves: Mapping[str, CertAndKey] = {}  # for the host of each chain
    injected: tuple[str, ...] = ALWAYS_INJECTED  # part of every chain, so it is never made smaller

    def mark(self, host: str) -> str:
        """A word for all that Envoy is told of a host; who asks for the probe's path hears it."""
        chain = next(chain for chain in self.chains if chain.host == host)
        told = repr((chain, self.leaves[host].cert_pem, self.injected))
        return f"{zlib.crc32(told.encode()):08x}"


def envoy_ways(policy: Policy, leaves: Mapping[str, CertAndKey], known: Iterable[Outlet] = ()) -> Ways:
    """For a policy alone. Raises BottleError."""
    return Ways(inspected_chains(policy, known), leaves, injected_headers(policy.routes))


def envoy_clusters(ways: Ways, ca_bundle: str) -> Json:
    """The file of clusters: one way to the dialler for each outlet."""
    return _resources("cluster.v3.Cluster", upstream_clusters(outlets_of(ways.chains), ca_bundle))


def envoy_listeners(ways: Ways, early: Collection[str] = ()) -> Json:
    """The file of listeners. The mark of the hosts in `early` says that they are not to be relied on yet."""
    chains = [_filter_chain(chain, ways, EARLY if chain.host in early else "") for chain in ways.chains]
    return _resources("listener.v3.Listener", [_listener(chains)] if chains else [])


def _resources(message: str, items: list[Json]) -> Json:
    kind = f"type.googleapis.com/envoy.config.{message}"
    return {"resources": [{"@type": kind, **item} for item in items]}


def injected_headers(routes: Iterable[Route]) -> tuple[str, ...]:
    """The names, in lower case, of all headers that may carry a credential outward."""
    own = {auth_header(route.auth.scheme) for route in routes if route.auth is not None}
    return tuple(sorted(own.union(ALWAYS_INJECTED)))


def auth_header(scheme: str) -> str:
    kind, _, name = scheme.partition(":")
    return name.lower() if kind == "header" else "authorization"


def _listener(filter_chains: list[Json]) -> Json:
    # No default filter chain: a missing or foreign SNI, and bytes that are not TLS, match nothing and
    # the connection is closed.
    return {
        "name": "inspected",
        "address": {"pipe": {"path": LISTENER_SOCKET, "mode": 0o600}},
        "per_connection_buffer_limit_bytes": BUFFER_BYTES,
        "listener_filters_timeout": "10s",
        "listener_filters": [
            {
                # The gate names its connection so, before the first byte of the bottle's.
                "name": "envoy.filters.listener.proxy_protocol",
                "typed_config": typed(
                    "filters.listener.proxy_protocol.v3.ProxyProtocol",
                    allow_requests_without_proxy_protocol=True,
                ),
            },
            {
                "name": "envoy.filters.listener.tls_inspector",
                "typed_config": typed("filters.listener.tls_inspector.v3.TlsInspector"),
            },
        ],
        "filter_chains": filter_chains,
    }


def _filter_chain(chain: Chain, ways: Ways, early: str) -> Json:
    leaf = ways.leaves[chain.host]
    tls = typed(
        "transport_sockets.tls.v3.DownstreamTlsContext",
        common_tls_context={
            "tls_params": {"tls_minimum_protocol_version": "TLSv1_2"},
            # The first that both know: over HTTP/2 curl loses an answer that comes before it has sent all.
            "alpn_protocols": ["http/1.1", "h2"],
            "tls_certificates": [
                {
                    "certificate_chain": {"inline_string": leaf.cert_pem},
                    "private_key": {"inline_string": leaf.key_pem},
                }
            ],
        },
    )
    return {
        "name": chain.host,
        "filter_chain_match": {"server_names": [chain.host], "transport_protocol": "tls"},
        "transport_socket_connect_timeout": "10s",
        "transport_socket": {"name": "envoy.transport_sockets.tls", "typed_config": tls},
        "filters": [
            {
                "name": "envoy.filters.network.http_connection_manager",
                "typed_config": _http_manager(chain, ways.injected, early + ways.mark(chain.host)),
            }
        ],
    }


def _http_manager(chain: Chain, injected: tuple[str, ...], mark: str) -> Json:
    return typed(
        "filters.network.http_connection_manager.v3.HttpConnectionManager",
        stat_prefix="in",
        # Acting as an edge makes Envoy drop the client's x-envoy-* headers, which would steer it.
        use_remote_address=True,
        skip_xff_append=True,
        generate_request_id=False,
        server_header_transformation="PASS_THROUGH",
        normalize_path=True,
        merge_slashes=False,
        path_with_escaped_slashes_action="REJECT_REQUEST",
        max_request_headers_kb=MAX_HEADERS_KB,
        common_http_protocol_options={
            "headers_with_underscores_action": "REJECT_REQUEST",
            "max_headers_count": MAX_HEADERS,
            "idle_timeout": STREAM_IDLE,
        },
        http2_protocol_options={
            "max_concurrent_streams": MAX_STREAMS,
            "initial_stream_window_size": BUFFER_BYTES,
            "initial_connection_window_size": 4 * BUFFER_BYTES,
        },
        upgrade_configs=[{"upgrade_type": "websocket"}],
        stream_idle_timeout=STREAM_IDLE,
        request_timeout="0s",  # a body or an event stream may take as long as it moves
        request_headers_timeout=HEADERS_TIMEOUT,
        delayed_close_timeout="0.2s",
        access_log=[_access_log()],
        http_filters=[_told_filter(), _authz_filter(injected), _router_filter()],
        route_config={
            "name": chain.host,
            # Envoy may read the listeners before the clusters; a request that comes in between is a 503.
            "validate_clusters": False,
            "request_headers_to_remove": list(_NEVER_UPSTREAM),
            "virtual_hosts": [
                *(_virtual_host(chain, outlet, mark) for outlet in chain.outlets),
                _misdirected(),
            ],
        },
    )


def _virtual_host(chain: Chain, outlet: Outlet, mark: str) -> Json:
    target = outlet.target
    domains = [f"{chain.host}:{target.port}"]
    if target.port == 443:
        domains.append(chain.host)
    action: Json = {"timeout": "0s"}
    if target.upstream is None:
        action |= {"cluster": INTERNET, "metadata_match": outlet_metadata(outlet)}
    else:
        action |= {"cluster": outlet.name, "host_rewrite_literal": upstream_authority(target.upstream)}
    probe = {
        "match": {"path": PROBE_PATH},
        "direct_response": {"status": 204},
        "response_headers_to_add": [{"header": {"key": MARK_HEADER, "value": mark}}],
        "typed_per_filter_config": {
            "envoy.filters.http.ext_authz": typed("filters.http.ext_authz.v3.ExtAuthzPerRoute", disabled=True)
        },
    }
    return {
        "name": f"{chain.host}:{target.port}",
        "domains": domains,
        "routes": [probe, {"match": {"prefix": "/"}, "route": action}],
    }


def _misdirected() -> Json:
    """Any other Host. The authorization server refuses it first, and says so in the log."""
    return {
        "name": "misdirected",
        "domains": ["*"],
        "routes": [{"match": {"prefix": ""}, "direct_response": {"status": 421}}],
    }


def _told_filter() -> Json:
    """Tells the authorization server the SNI, and in which of the gate's connections a request came.

    In headers that the client cannot set.
    """
    told = {SNI_HEADER: "%REQUESTED_SERVER_NAME%", PEER_HEADER: "%PROTOCOL% %DOWNSTREAM_REMOTE_ADDRESS%"}
    mutations = [
        {
            "append": {
                "header": {"key": name, "value": value},
                "append_action": "OVERWRITE_IF_EXISTS_OR_ADD",
            }
        }
        for name, value in told.items()
    ]
    return {
        "name": "envoy.filters.http.header_mutation",
        "typed_config": typed(
            "filters.http.header_mutation.v3.HeaderMutation",
            mutations={"request_mutations": mutations},
        ),
    }


def _authz_filter(injected: tuple[str, ...]) -> Json:
    return {
        "name": "envoy.filters.http.ext_authz",
        "typed_config": typed(
            "filters.http.ext_authz.v3.ExtAuthz",
            failure_mode_allow=False,
            status_on_error={"code": "Forbidden"},
            allowed_headers=_exactly(SNI_HEADER, PEER_HEADER),
            disallowed_headers=_exactly("authorization"),
            http_service={
                "server_uri": {"uri": "http://authz", "cluster": "authz", "timeout": AUTHZ_TIMEOUT},
                "authorization_response": {
                    "allowed_upstream_headers": _exactly(*injected),
                    "allowed_client_headers": _exactly("content-type"),
                },
            },
        ),
    }


def _router_filter() -> Json:
    return {
        "name": "envoy.filters.http.router",
        "typed_config": typed("filters.http.router.v3.Router", suppress_envoy_headers=True),
    }


def _access_log() -> Json:
    return {
        "name": "envoy.access_loggers.file",
        "typed_config": typed(
            "access_loggers.file.v3.FileAccessLog",
            path=ACCESS_LOG,
            log_format={"json_format": dict(_ACCESS_LOG_FIELDS)},
        ),
    }


def _exactly(*names: str) -> Json:
    return {"patterns": [{"exact": name, "ignore_case": True} for name in names]}
