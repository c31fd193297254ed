"""The libp2p host of a node: Noise, our muxer, limits on connections."""

from collections.abc import Callable, Sequence
from typing import Any

from .library import (
    NOISE_ID,
    YAMUX_ID,
    ConnectionConfig,
    KeyPair,
    LibraryYamux,
    Multiaddr,
    ResourceLimits,
    ResourceManager,
    TProtocol,
    new_host,
    new_x25519_keys,
)
from .library_fixes import (
    AllowedPeersOnly,
    require_version,
    tolerate_removed_handlers,
    use_library_muxer,
    use_own_muxer,
    use_own_routing_protocol,
)
from .newcomers import HANDSHAKE_SECONDS, HANDSHAKES, Newcomers
from .places import NAMED, STRANGERS

# With peers whose key is known; `Places` decides who has them.
MOST_CONNECTIONS = STRANGERS + NAMED
MOST_STREAMS = 1024


def make_host(
    keys: KeyPair,
    *,
    listen: Sequence[Multiaddr],
    announce: Sequence[Multiaddr],
    allowed: Callable[[str], bool],
    named: Callable[[str], bool],
    own_muxer: bool,
) -> Any:
    """A host with the faults of the library corrected; it does not run yet.

    **Arguments:**

    - `listen`: addresses to listen on, and `announce`: addresses to tell others if they
        differ.
    - `allowed`: whether a peer of an id may connect, and `named`: whether it is no
        stranger.
    - `own_muxer`: False for the library's, for comparisons.
    """
    require_version()
    use_own_routing_protocol()
    if own_muxer:
        use_own_muxer()
    else:
        use_library_muxer()
    host = new_host(
        key_pair=keys,
        listen_addrs=listen,
        sec_opt={NOISE_ID: AllowedPeersOnly(keys, new_x25519_keys().private_key, allowed)},
        muxer_opt={TProtocol(YAMUX_ID): LibraryYamux},
        resource_manager=ResourceManager(
            limits=ResourceLimits(
                max_connections=MOST_CONNECTIONS + 2 * HANDSHAKES, max_streams=MOST_STREAMS
            )
        ),
        connection_config=ConnectionConfig(
            max_connections_per_peer=1,
            # Otherwise it dials every known peer until it has a hundred connections.
            min_connections=0,
            low_watermark=0,
            high_watermark=MOST_CONNECTIONS + HANDSHAKES,
            # The library refuses before the handshake, when nobody is known.
            max_connections=MOST_CONNECTIONS + HANDSHAKES,
            inbound_upgrade_timeout=HANDSHAKE_SECONDS,
            enable_health_monitoring=not own_muxer,
            health_initial_delay=1,
            health_warmup_window=0,
            health_check_interval=2,
            ping_timeout=2,
            abort_connection_on_ping_failure=True,
        ),
        announce_addrs=list(announce) or None,
    )
    tolerate_removed_handlers(host)
    Newcomers(host.get_network(), named)
    return host
