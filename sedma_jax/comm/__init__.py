"""Peers that exchange tensors over libp2p, chosen by what each can carry.

Needs the extra `comm`. Public are `open_node` for synchronous code, `running_node` under
trio, and `NodeSettings`. Third-party names have one module each: libp2p in
`_libp2p/host.py`, optax in `_tensors/weights.py`, protobuf in `_rpc/messages.py` and the
generated `_rpc/wire_pb2.py`; trio is the language that the whole subpackage is written in.
"""

from ._jobs.client import JobClient as JobClient, open_jobs as open_jobs
from ._libp2p import library  # first: it says what to install  # noqa: F401
from ._libp2p.keystore import key_id as key_id
from ._node.node import Node as Node, running_node as running_node
from ._node.settings import EVERYONE as EVERYONE, NodeSettings as NodeSettings
from ._peers.weights import WeightLearner as WeightLearner
from ._rpc.messages import MessageError as MessageError
from ._rpc.methods import Call as Call, RemoteError as RemoteError
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
