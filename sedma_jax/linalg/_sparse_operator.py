"""A sparse matrix as a digital lineax operator."""

import equinox as eqx
import jax
import jax.numpy as jnp
import lineax as lx
from jaxtyping import Array, Float, Int

from .._tiling.partition import Sparse, checked_sparse
from ._registration import register, transposed_tags


class SparseLinearOperator(lx.AbstractLinearOperator):
    """A sparse matrix by its nonzeros: exact products, for computing residuals.

    **Example:**

        >>> import scipy.sparse
        >>> A = scipy.sparse.coo_array([[0.0, 2.0, 0.0], [1.0, 0.0, 0.0]])
        >>> operator = sj.linalg.SparseLinearOperator.of(A)
        >>> x = jnp.array([1.0, 2.0, 3.0])
        >>> print(operator.mv(x), operator.transpose().mv(jnp.ones(2)))
        [4. 1.] [1. 2. 0.]
    """

    data: Float[Array, " nonzeros"]
    row: Int[Array, " nonzeros"]
    col: Int[Array, " nonzeros"]
    shape: tuple[int, int] = eqx.field(static=True)
    tags: frozenset[object] = eqx.field(static=True, default=frozenset())

    @classmethod
    def of(
        cls, matrix: Sparse, tags: frozenset[object] = frozenset()
    ) -> "SparseLinearOperator":
        """Make an operator of a scipy sparse matrix or a BCOO, in the dtype of the matrix.

        **Raises:**

        - `ValueError`: if it is complex, empty or traced, or holds NaN or infinity.
        """
        entries = checked_sparse(matrix)
        row, col = (jnp.asarray(index, jnp.int32) for index in (entries.row, entries.col))
        m, n = entries.shape
        data = jnp.asarray(entries.data)
        return cls(data=data, row=row, col=col, shape=(m, n), tags=tags)

    def mv(self, vector: Float[Array, " n"]) -> Float[Array, " m"]:
        """Multiply digitally."""
        return (
            jnp.zeros(self.shape[0], self.data.dtype)
            .at[self.row]
            .add(self.data * vector[self.col])
        )

    def as_matrix(self) -> Float[Array, "m n"]:
        """The dense matrix."""
        empty = jnp.zeros(self.shape, self.data.dtype)
        return empty.at[self.row, self.col].add(self.data)

    def transpose(self) -> "SparseLinearOperator":
        """The operator of the transposed matrix."""
        (m, n), tags = self.shape, transposed_tags(self.tags)
        return SparseLinearOperator(
            data=self.data, row=self.col, col=self.row, shape=(n, m), tags=tags
        )

    def in_structure(self) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct(self.shape[1:], self.data.dtype)

    def out_structure(self) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct(self.shape[:1], self.data.dtype)


register(SparseLinearOperator)
