"""What Envoy is started with: the same for every bottle, so that it comes up before there is a policy.

Invariant: no address but a unix socket in its own working directory, and nothing of any bottle. It loads next
to nothing, since what brings Envoy up does so before it has loaded anything else.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    Json = dict[str, Any]

ENVOY_CONFIG, ENVOY_LOG = "envoy.json", "envoy.log"
AUTHZ_SOCKET = "authz.sock"
CLUSTERS_FILE, LISTENERS_FILE = "clusters.json", "listeners.json"  # replaced by renaming, which Envoy watches

UPSTREAM_IDLE = "30s"  # below what servers keep, so that a request seldom meets a closing connection
CONNECT_TIMEOUT = "30s"
BUFFER_BYTES = 256 * 1024
MAX_CONNECTIONS = 512  # the gate in front lets fewer in
HEAP_BYTES = 256 * 1024 * 1024


def envoy_argv(binary: str, config_path: str) -> list[str]:
    """The command line. It must run in the directory that holds the sockets."""
    return [
        binary,
        "--config-path",
        config_path,
        "--concurrency",
        "1",
        "--disable-hot-restart",
        "--log-level",
        "warn",
        "--file-flush-interval-msec",
        "1000",
    ]


def envoy_bootstrap() -> Json:
    """What Envoy starts with: the way to the authorization server, and the files that say the rest.

    It is the same for every bottle, so Envoy can come up before there are certificates.
    """
    return {
        "node": {"id": "bottle", "cluster": "claude-bottle"},
        "dynamic_resources": {
            "cds_config": {
                "path_config_source": {"path": f"./{CLUSTERS_FILE}"},
                "resource_api_version": "V3",
            },
            "lds_config": {
                "path_config_source": {"path": f"./{LISTENERS_FILE}"},
                "resource_api_version": "V3",
            },
        },
        "static_resources": {"clusters": [cluster("authz", [endpoint(AUTHZ_SOCKET)])]},
        "overload_manager": _overload_manager(),
        "stats_config": {"stats_matcher": {"reject_all": True}},
        "stats_flush_on_admin": True,
    }


def _overload_manager() -> Json:
    def monitor(name: str, message: str, **fields: object) -> Json:
        return {
            "name": f"envoy.resource_monitors.{name}",
            "typed_config": typed(f"resource_monitors.{message}", **fields),
        }

    def action(name: str, threshold: float) -> Json:
        trigger = {"name": "envoy.resource_monitors.fixed_heap", "threshold": {"value": threshold}}
        return {"name": f"envoy.overload_actions.{name}", "triggers": [trigger]}

    return {
        "resource_monitors": [
            monitor(
                "global_downstream_max_connections",
                "downstream_connections.v3.DownstreamConnectionsConfig",
                max_active_downstream_connections=MAX_CONNECTIONS,
            ),
            monitor("fixed_heap", "fixed_heap.v3.FixedHeapConfig", max_heap_size_bytes=HEAP_BYTES),
        ],
        "actions": [action("shrink_heap", 0.5), action("stop_accepting_requests", 0.95)],
    }


def cluster(name: str, endpoints: list[Json], **upstream_options: bool) -> Json:
    """HTTP/1.1 only: event streams and WebSockets work with any server, and connections are plain to end."""
    options = typed(
        "upstreams.http.v3.HttpProtocolOptions",
        explicit_http_config={"http_protocol_options": {}},
        common_http_protocol_options={"idle_timeout": UPSTREAM_IDLE},
        upstream_http_protocol_options=upstream_options,
    )
    return {
        "name": name,
        "type": "STATIC",
        "connect_timeout": CONNECT_TIMEOUT,
        "per_connection_buffer_limit_bytes": BUFFER_BYTES,
        "load_assignment": {"cluster_name": name, "endpoints": [{"lb_endpoints": endpoints}]},
        "typed_extension_protocol_options": {
            "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": options
        },
    }


def endpoint(socket: str) -> Json:
    return {"endpoint": {"address": {"pipe": {"path": socket}}}}


def typed(message: str, **fields: object) -> Json:
    return {"@type": f"type.googleapis.com/envoy.extensions.{message}", **fields}
