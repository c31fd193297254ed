"""Long-term memory: choices made before, with the rewards they brought.

memory = sedma_jax.memory.open("sqlite:///patterns.db")
memory.record("partition", "dense-tall", {"rows": 256, "cols": 64}, 0.87)
best = memory.recall("partition", "dense-tall")[0]
"""

from .._dir import later_names
from .._extras import require

require("memory", "alembic", "cachetools", "platformdirs", "sqlalchemy")
__dir__ = later_names(globals())

from ._adaptive import AdaptiveInfo as AdaptiveInfo, adaptive_matvec as adaptive_matvec
from ._decision import Ablation as Ablation
from ._location import default_url as default_url
from ._memory import Memory as Memory, open as open
from ._pattern import Pattern as Pattern
from ._pressure import memory_pressure as memory_pressure
from ._reward import Measured as Measured, RewardWeights as RewardWeights
from ._short_term import ShortTerm as ShortTerm
from ._strategy import Record as Record
from ._workload import Workload as Workload, classify as classify
