"""Register operators of real matrices that carry tags with `lineax`."""

import jax.numpy as jnp
import lineax as lx

_TAGS = {
    lx.is_symmetric: (
        lx.symmetric_tag,
        lx.positive_semidefinite_tag,
        lx.negative_semidefinite_tag,
        lx.diagonal_tag,
    ),
    lx.is_diagonal: (lx.diagonal_tag,),
    lx.is_tridiagonal: (lx.tridiagonal_tag, lx.diagonal_tag),
    lx.has_unit_diagonal: (lx.unit_diagonal_tag,),
    lx.is_lower_triangular: (lx.lower_triangular_tag, lx.diagonal_tag),
    lx.is_upper_triangular: (lx.upper_triangular_tag, lx.diagonal_tag),
    lx.is_positive_semidefinite: (lx.positive_semidefinite_tag,),
    lx.is_negative_semidefinite: (lx.negative_semidefinite_tag,),
}
_SWAPPED: dict[object, object] = {
    lx.lower_triangular_tag: lx.upper_triangular_tag,
    lx.upper_triangular_tag: lx.lower_triangular_tag,
}


def register(operator_type: type[lx.AbstractLinearOperator]) -> None:
    """Let `lineax` use an operator by its `as_matrix` and its field `tags`."""
    lx.linearise.register(operator_type)(lambda operator: operator)
    lx.conj.register(operator_type)(lambda operator: operator)
    lx.materialise.register(operator_type)(
        lambda operator: lx.MatrixLinearOperator(operator.as_matrix(), operator.tags)
    )
    lx.diagonal.register(operator_type)(lambda operator: jnp.diag(operator.as_matrix()))
    lx.tridiagonal.register(operator_type)(
        lambda operator: lx.tridiagonal(lx.materialise(operator))
    )
    for check, sufficient in _TAGS.items():
        check.register(operator_type)(
            lambda operator, sufficient=sufficient: not operator.tags.isdisjoint(sufficient)
        )


def transposed_tags(tags: frozenset[object]) -> frozenset[object]:
    """The tags of the transpose."""
    return frozenset(_SWAPPED.get(tag, tag) for tag in tags)
