"""Everything that the package imports from libp2p; no other file imports the library."""

import logging
from importlib.metadata import version

from ..._extras import install_hint

try:
    import libp2p.kad_dht.common as kad_common
    import libp2p.kad_dht.kad_dht as kad
    import libp2p.kad_dht.peer_routing as kad_routing
    import libp2p.kad_dht.provider_store as kad_providers
    import libp2p.kad_dht.value_store as kad_values
    import libp2p.relay.circuit_v2.dcutr as dcutr
    import libp2p.stream_muxer.muxer_multistream as muxer_multistream
    import multiaddr
    from libp2p import new_host as new_host
    from libp2p.abc import (
        IMuxedConn as IMuxedConn,
        IMuxedStream as IMuxedStream,
    )
    from libp2p.bitswap import (
        cid_to_text as cid_to_text,
        compute_cid_v1 as compute_cid_v1,
        parse_cid as parse_cid,
    )
    from libp2p.bitswap.pb.bitswap_pb2 import Message as BitswapMessage
    from libp2p.connection_types import ConnectionType as ConnectionType
    from libp2p.crypto.ed25519 import (
        Ed25519PublicKey as Ed25519PublicKey,
        create_new_key_pair as new_ed25519_keys,
    )
    from libp2p.crypto.keys import KeyPair as KeyPair
    from libp2p.crypto.serialization import (
        deserialize_private_key as deserialize_private_key,
        deserialize_public_key as deserialize_public_key,
    )
    from libp2p.crypto.x25519 import create_new_key_pair as new_x25519_keys
    from libp2p.custom_types import TProtocol as TProtocol
    from libp2p.discovery.rendezvous.client import RendezvousClient as RendezvousClient
    from libp2p.discovery.rendezvous.messages import (
        create_register_response_message as rendezvous_answer,
    )
    from libp2p.discovery.rendezvous.pb.rendezvous_pb2 import Message as RendezvousMessage
    from libp2p.discovery.rendezvous.service import RendezvousService as RendezvousService
    from libp2p.kad_dht.kad_dht import DHTMode as DHTMode, KadDHT as KadDHT
    from libp2p.network.config import ConnectionConfig as ConnectionConfig
    from libp2p.network.connection.raw_connection import RawConnection as RawConnection
    from libp2p.network.stream.net_stream import NetStream as NetStream
    from libp2p.peer.id import ID as PeerID
    from libp2p.peer.peerinfo import info_from_p2p_addr as info_from_p2p_addr
    from libp2p.rcmgr.manager import (
        ResourceLimits as ResourceLimits,
        ResourceManager as ResourceManager,
    )
    from libp2p.relay.circuit_v2.config import (
        RelayConfig as RelayConfig,
        RelayRole as RelayRole,
    )
    from libp2p.relay.circuit_v2.protocol import (
        PROTOCOL_ID as HOP_PROTOCOL,
        STOP_PROTOCOL_ID as STOP_PROTOCOL,
        CircuitV2Protocol as CircuitV2Protocol,
    )
    from libp2p.relay.circuit_v2.resources import RelayLimits as RelayLimits
    from libp2p.relay.circuit_v2.transport import CircuitV2Transport as CircuitV2Transport
    from libp2p.security.noise.io import (
        NoiseTransportReadWriter as NoiseTransportReadWriter,
    )
    from libp2p.security.noise.transport import (
        PROTOCOL_ID as NOISE_ID,
        Transport as NoiseTransport,
    )
    from libp2p.stream_muxer.exceptions import (
        MuxedConnUnavailable as MuxedConnUnavailable,
        MuxedStreamEOF as MuxedStreamEOF,
        MuxedStreamError as MuxedStreamError,
        MuxedStreamReset as MuxedStreamReset,
    )
    from libp2p.stream_muxer.yamux.yamux import (
        PROTOCOL_ID as YAMUX_ID,
        Yamux as LibraryYamux,
    )
    from libp2p.tools.anyio_service import (
        background_trio_service as background_trio_service,
    )
except ImportError as error:
    raise ImportError(
        f"`sedma_jax.comm` needs libp2p, which cannot be imported ({error}). "
        f"{install_hint('comm')} One of its parts is compiled during "
        "the installation: run `sudo apt-get install build-essential libgmp-dev` first."
    ) from error

# Python prints warnings of a logger without a handler, and peers that leave are ordinary.
logging.getLogger("libp2p").addHandler(logging.NullHandler())

VERSION = version("libp2p")
"""The installed version of libp2p."""

Multiaddr = multiaddr.Multiaddr
"""An address such as `/ip4/10.0.0.1/tcp/4001/p2p/12D3KooW...`."""

KAD_MODULES = (kad_common, kad, kad_routing, kad_providers, kad_values)
"""The modules that each hold a copy of the routing table's protocol id."""

__all__ = [
    "HOP_PROTOCOL",
    "KAD_MODULES",
    "NOISE_ID",
    "STOP_PROTOCOL",
    "VERSION",
    "YAMUX_ID",
    "BitswapMessage",
    "LibraryYamux",
    "Multiaddr",
    "NoiseTransport",
    "PeerID",
    "RendezvousMessage",
    "dcutr",
    "muxer_multistream",
    "new_ed25519_keys",
    "new_x25519_keys",
    "rendezvous_answer",
]
