"""Deploy agent workflows: a specification in, a placement near the optimum out."""

from . import _requirements as _requirements
from ._compile import (
    compile as compile,
    default_workflow as default_workflow,
    describe as describe,
    node_shares as node_shares,
    plan as plan,
)
from ._exact import Proof as Proof, prove as prove
from ._placement import (
    Infeasible as Infeasible,
    Placement as Placement,
    place as place,
    shortages as shortages,
)
from ._problem import (
    distances as distances,
    placement_problem as placement_problem,
    replica_names as replica_names,
)
from ._quantity import parse_quantity as parse_quantity
from ._remember import remembered_plan as remembered_plan
from ._specification import (
    Agent as Agent,
    Edge as Edge,
    JaxJob as JaxJob,
    Link as Link,
    Network as Network,
    Node as Node,
    SharedModel as SharedModel,
    Workflow as Workflow,
)
from ._target import Applied as Applied, Target as Target, apply as apply
from ._validate import (
    Refusal as Refusal,
    validate as validate,
    validate_files as validate_files,
)
from ._yaml import load_workflow as load_workflow, parse_workflow as parse_workflow
