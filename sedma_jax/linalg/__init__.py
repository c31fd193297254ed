"""Solve linear systems on crossbars, through lineax. Needs the extra `linalg`."""

from ._crossbar_operator import CrossbarLinearOperator as CrossbarLinearOperator
from ._equilibration import Equilibration as Equilibration, equilibrate as equilibrate
from ._flexible_gmres import FlexibleGMRES as FlexibleGMRES
from ._refinement import IterativeRefinement as IterativeRefinement
from ._solve import RESULTS as RESULTS, Solution as Solution, solve as solve
from ._sparse_operator import SparseLinearOperator as SparseLinearOperator
