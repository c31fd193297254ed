"""Deploy agent workflows: a specification in, a placement near the optimum out."""

import typing as _typing
from importlib import import_module as _import_module

from .._dir import later_names
from .._extras import require

require(
    "deploy",
    "kubernetes",
    "kubernetes_validate",
    "mtkahypar",
    "ortools",
    "pydantic",
    "yaml",
)
__dir__ = later_names(globals(), "agents")

from ._control.apply import apply as apply
from ._control.cluster import ClusterError as ClusterError
from ._control.controller import RolloutFailed as RolloutFailed
from ._control.lease import LeaseLost as LeaseLost
from ._control.target import Applied as Applied, Target as Target
from ._manifests.compile import (
    compile as compile,
    default_workflow as default_workflow,
    describe as describe,
    node_shares as node_shares,
    plan as plan,
)
from ._placing.placement import (
    Infeasible as Infeasible,
    Placement as Placement,
    place as place,
    shortages as shortages,
)
from ._placing.problem import (
    distances as distances,
    placement_problem as placement_problem,
    replica_names as replica_names,
)
from ._placing.proof import Proof as Proof, prove as prove
from ._placing.remembered_plan import remembered_plan as remembered_plan
from ._validation.validate import (
    Refusal as Refusal,
    validate as validate,
    validate_files as validate_files,
)
from ._workflow.quantity import parse_quantity as parse_quantity
from ._workflow.specification import (
    Agent as Agent,
    ClusterNode as ClusterNode,
    Edge as Edge,
    JaxJob as JaxJob,
    Link as Link,
    Network as Network,
    SharedModel as SharedModel,
    Workflow as Workflow,
)
from ._workflow.yaml_files import (
    load_workflow as load_workflow,
    parse_workflow as parse_workflow,
)

Node = ClusterNode
"""The former name of `ClusterNode`; `sedma_jax.comm.Node` is a libp2p node.

**Example:**

    >>> sj.deploy.Node is sj.deploy.ClusterNode
    True
"""

if _typing.TYPE_CHECKING:
    from . import agents as agents
else:

    def __getattr__(name):
        # It needs the whole simulator, which deploying does not.
        if name == "agents":
            return _import_module(".agents", __name__)
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
