"""Peers that exchange tensors over libp2p, chosen by what each can carry.

Needs the extra `comm`. Public are `open_node` for synchronous code, `running_node` under
trio, and `NodeSettings`. Third-party names have one module each: libp2p in `_libp2p.py`,
optax in `_weights.py`, protobuf in `_messages.py` and the generated `_wire_pb2.py`; trio is
the language that the whole subpackage is written in.
"""

from . import _libp2p  # first: it says what to install  # noqa: F401
from ._agents import AgentPeer as AgentPeer, agent_id as agent_id
from ._bridge import OpenNode as OpenNode, alias as alias, open_node as open_node
from ._fetch import FetchError as FetchError, Transfer as Transfer
from ._job_client import JobClient as JobClient, open_jobs as open_jobs
from ._keystore import key_id as key_id
from ._manifest import (
    Manifest as Manifest,
    ManifestError as ManifestError,
    check_cid as check_cid,
)
from ._messages import MessageError as MessageError
from ._node import Node as Node, running_node as running_node
from ._process import (
    ProcessNode as ProcessNode,
    open_node_process as open_node_process,
)
from ._publish import Publication as Publication, publish as publish
from ._rpc import Call as Call, RemoteError as RemoteError
from ._settings import EVERYONE as EVERYONE, NodeSettings as NodeSettings
from ._weights import WeightLearner as WeightLearner
