"""What `lineax` asks of operators that carry tags."""

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


def has_tags(operator_type: type[lx.AbstractLinearOperator]) -> None:
    """Have `lineax` answer what an operator is by its field `tags`."""
    for check, sufficient in _TAGS.items():
        check.register(operator_type)(
            lambda operator, sufficient=sufficient: not operator.tags.isdisjoint(sufficient)
        )


def transposed_tags(tags: frozenset[object]) -> frozenset[object]:
    """Tags of the transpose."""
    return frozenset(_SWAPPED.get(tag, tag) for tag in tags)
