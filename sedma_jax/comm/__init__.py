"""Peers that exchange tensors over libp2p; each fetches from the peers that score best.

Needs the extra `comm`. Synchronous code uses `open_node`, code under trio `running_node`;
`NodeSettings` sets up either. Each third-party library is imported in one module: libp2p in
`_libp2p/library.py`, optax in `_peers/weights.py`, protobuf in `_rpc/messages.py` and the
generated `_rpc/wire_pb2.py`. Only trio is used throughout.
"""

from .._dir import later_names

__dir__ = later_names(globals())

from ._jobs.client import JobClient as JobClient, open_jobs as open_jobs
from ._libp2p import library as _library  # it says what to install  # noqa: F401
from ._libp2p.keystore import key_id as key_id
from ._node.node import Node as Node
from ._node.running import running_node as running_node
from ._node.settings import EVERYONE as EVERYONE, NodeSettings as NodeSettings
from ._peers.weights import WeightLearner as WeightLearner
from ._rpc.calls import RemoteError as RemoteError
from ._rpc.messages import MessageError as MessageError
from ._rpc.methods import Call as Call
from ._runners.agents import AgentPeer as AgentPeer, agent_id as agent_id
from ._runners.process import (
    ProcessNode as ProcessNode,
    open_node_process as open_node_process,
)
from ._runners.publish import Publication as Publication, publish as publish
from ._runners.thread import OpenNode as OpenNode, alias as alias, open_node as open_node
from ._tensors.fetch import FetchError as FetchError, Transfer as Transfer
from ._tensors.manifest import (
    Manifest as Manifest,
    ManifestError as ManifestError,
    check_cid as check_cid,
)
