"""Solve linear systems on crossbars through lineax: analog products, digital residuals.

solution = sedma_jax.linalg.solve(A, b, sedma_jax.devices.EPIRAM, key=key)
operator = sedma_jax.linalg.CrossbarLinearOperator(crossbar)
"""

from .._dir import later_names
from .._extras import require

require("linalg", "lineax")
__dir__ = later_names(globals())

from ._crossbar_operator import CrossbarLinearOperator as CrossbarLinearOperator
from ._equilibration import Equilibration as Equilibration, equilibrate as equilibrate
from ._flexible_gmres import FlexibleGMRES as FlexibleGMRES
from ._refinement import IterativeRefinement as IterativeRefinement
from ._solve import RESULTS as RESULTS, Solution as Solution, solve as solve
from ._sparse_operator import SparseLinearOperator as SparseLinearOperator
