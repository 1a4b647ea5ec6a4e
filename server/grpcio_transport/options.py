"""The limits of messages and connections, in the names and units of gRPC's C core."""

from server.settings import Settings

_HANDSHAKE_MS = 20_000
_INT_MAX = (1 << 31) - 1


def channel_options(settings: Settings) -> list[tuple[str, int]]:
    """What `grpc.server` is given."""
    return [
        ("grpc.max_receive_message_length", settings.max_message_bytes),
        ("grpc.max_send_message_length", settings.max_message_bytes),
        # Between a soft and a hard limit gRPC would refuse some calls, at random: with both alike it is all or none.
        ("grpc.max_metadata_size", settings.max_metadata_bytes),
        ("grpc.absolute_max_metadata_size", settings.max_metadata_bytes),
        ("grpc.max_concurrent_streams", settings.max_streams),
        # Else calls that have ended, and are not yet cleared away, count as well, and a client that keeps the limit is refused.
        ("grpc.http.overload_protection", 0),
        ("grpc.max_connection_age_ms", _milliseconds(settings.connection_age)),
        ("grpc.max_connection_age_grace_ms", _milliseconds(settings.max_connection_age_grace)),
        ("grpc.max_connection_idle_ms", _milliseconds(settings.max_connection_idle)),
        ("grpc.keepalive_time_ms", _milliseconds(settings.keepalive_time)),
        ("grpc.keepalive_timeout_ms", _milliseconds(settings.keepalive_timeout)),
        # A client may keep an idle connection alive, since load balancers forget those that are silent.
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.min_ping_interval_without_data_ms", int(settings.min_ping_interval * 1000)),
        ("grpc.http2.max_ping_strikes", 2),
        ("grpc.server_handshake_timeout_ms", _HANDSHAKE_MS),
    ]


def _milliseconds(seconds: float) -> int:
    return int(seconds * 1000) or _INT_MAX
