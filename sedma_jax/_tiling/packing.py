"""Cut a matrix into rectangles that arrays of several sizes hold.

The patterns are two-stage guillotine cuts (Gilmore & Gomory 1965, Oper. Res. 13, 94):
the matrix is cut into strips of the height of some array, each strip into columns of the
width of some array, and each column into a stack of arrays of one kind. Within these
patterns, and with enough stock, the choice is optimal: a strip is the cheapest path over
its columns, and the matrix the cheapest path over its strips. When a kind runs out, the
rest of the matrix is cut anew with the remaining stock, so that a bounded stock is used
greedily.
"""

import heapq
import math
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

# Side of the blocks that are packed one after another; larger arrays make larger blocks.
_PANEL = 1024


class Place(NamedTuple):
    """Half-open ranges of rows and columns of the matrix, and the kind of array."""

    top: int
    bottom: int
    left: int
    right: int
    kind: int


# Top, bottom, left and right of a part of the matrix.
Region = tuple[int, int, int, int]
# Start and end of a strip, and the stack of places of each of its columns.
Strip = tuple[int, int, list[list[Place]]]
# Strips by region, or its size if there is no `occupied`, and by stock.
Known = dict[tuple[tuple[int, ...], tuple[float, ...]], list[Strip] | None]


class Occupancy:
    """The nonzeros of a block, with their number in any rectangle in O(1)."""

    def __init__(self, block: Place, rows: np.ndarray, cols: np.ndarray):
        self.block, self.rows, self.cols = block, rows, cols

    @cached_property
    def sums(self) -> np.ndarray:
        """Numbers of nonzeros above and to the left of each corner of an entry."""
        top, bottom, left, right, _ = self.block
        dtype = np.int32 if len(self.rows) < 2**31 else np.int64
        sums = np.zeros((bottom - top + 1, right - left + 1), dtype)
        sums[self.rows - top + 1, self.cols - left + 1] = 1
        return sums.cumsum(0, out=sums).cumsum(1, out=sums)

    def counts(
        self, tops: ArrayLike, bottoms: ArrayLike, lefts: ArrayLike, rights: ArrayLike
    ) -> np.ndarray:
        """The number of nonzeros in each rectangle; the bounds broadcast."""
        t, b = np.asarray(tops) - self.block.top, np.asarray(bottoms) - self.block.top
        l, r = np.asarray(lefts) - self.block.left, np.asarray(rights) - self.block.left
        s = self.sums
        return s[b, r] - s[t, r] - s[b, l] + s[t, l]

    def strips(self, tops: np.ndarray, bottoms: np.ndarray) -> np.ndarray:
        """For each strip of rows, the number of nonzeros left of each column."""
        return self.sums[bottoms - self.block.top] - self.sums[tops - self.block.top]

    def held(
        self, top: int, bottom: int, left: int, right: int, *, axis: int
    ) -> np.ndarray:
        """Whether each row (`axis=0`) or column of a rectangle holds a nonzero."""
        t, b = top - self.block.top, bottom - self.block.top
        l, r = left - self.block.left, right - self.block.left
        if axis == 0:
            counts = self.sums[t : b + 1, r] - self.sums[t : b + 1, l]
        else:
            counts = self.sums[b, l : r + 1] - self.sums[t, l : r + 1]
        return counts[1:] > counts[:-1]


def pack(
    shape: tuple[int, int],
    sizes: Sequence[tuple[int, int]],
    stock: Sequence[float],
    prices: Sequence[float],
    occupied: tuple[np.ndarray, np.ndarray] | None = None,
    known: Known | None = None,
) -> list[Place] | None:
    """Cover a matrix by arrays from a stock at a low price.

    **Arguments:**

    - `shape`: shape of the matrix.
    - `sizes`: rows and columns of the matrix that an array of each kind holds.
    - `stock`: number of arrays of each kind; `math.inf` for as many as needed.
    - `prices`: price of one array of each kind, positive.
    - `occupied`: rows and columns of the nonzeros, if nothing else has to be covered.
    - `known`: cuts found by earlier calls that differ in `stock` alone; new ones are
        added.

    **Returns:**

    Disjoint places, or None if the stock does not suffice.
    """
    stock, known = list(stock), {} if known is None else known
    tallest = max(height for height, _ in sizes)
    needed = [-(-tallest // height) for height, _ in sizes]
    places: list[Place] = []
    for block, occupancy in _blocks(shape, sizes, occupied):
        pending = [block[:4]]
        while pending:
            region = top, bottom, left, right = pending.pop()
            # No column takes more arrays than `needed`, so that any larger stock is cut
            # in the same way.
            enough = tuple(map(min, stock, needed))
            place = (bottom - top, right - left) if occupancy is None else region
            if (place, enough) not in known:
                known[place, enough] = _cut(region, sizes, enough, prices, occupancy)
            strips = known[place, enough]
            if strips is None:
                return None
            rest = _take(strips, region, stock, places)
            pending.extend(r for r in rest if r[0] < r[1])
    return places


def _take(
    strips: list[Strip],
    region: Region,
    stock: list[float],
    places: list[Place],
) -> list[Region]:
    """Take arrays for one strip after another, and add their places to `places`.

    **Returns:** the regions left uncovered when a kind runs out; empty if none does.
    """
    top, bottom, left, right = region
    for start, end, columns in strips:
        for column in columns:
            kind = column[0].kind
            if len(column) > stock[kind]:
                rest = (top + start, top + end, left + column[0].left, right)
                return [(top + end, bottom, left, right), rest]
            stock[kind] -= len(column)
            places.extend(
                Place(
                    top=top + place.top,
                    bottom=top + place.bottom,
                    left=left + place.left,
                    right=left + place.right,
                    kind=place.kind,
                )
                for place in column
            )
    return []


def _blocks(
    shape: tuple[int, int],
    sizes: Sequence[tuple[int, int]],
    occupied: tuple[np.ndarray, np.ndarray] | None,
) -> Iterator[tuple[Place, Occupancy | None]]:
    """Blocks of the matrix that are packed one after another.

    Every kind of array divides their sides, unless that made a side longer than
    `2 * _PANEL`. With `occupied`, blocks without a nonzero are left out.
    """
    sides = []
    for axis in (0, 1):
        unit = math.lcm(*(size[axis] for size in sizes))
        largest = max(size[axis] for size in sizes)
        unit = unit if unit <= 2 * _PANEL else largest
        sides.append(max(_PANEL // unit, 1) * unit)
    # The last block of each axis includes the remainder, so that no block is narrow.
    edges = []
    for extent, side in zip(shape, sides, strict=True):
        count = max(extent // side, 1)
        edges.append([i * side for i in range(count)] + [extent])
    rows, cols = edges

    def block(i: int, j: int) -> Place:
        return Place(
            top=rows[i], bottom=rows[i + 1], left=cols[j], right=cols[j + 1], kind=-1
        )

    if occupied is None:
        for i in range(len(rows) - 1):
            yield from ((block(i, j), None) for j in range(len(cols) - 1))
        return
    r, c = occupied
    if r.size == 0:
        return
    i = np.minimum(r // sides[0], len(rows) - 2)
    j = np.minimum(c // sides[1], len(cols) - 2)
    number = i.astype(np.int64) * (len(cols) - 1) + j
    order = np.argsort(number, kind="stable")
    used, starts = np.unique(number[order], return_index=True)
    for n, entries in zip(used, np.split(order, starts[1:]), strict=True):
        one = block(*divmod(int(n), len(cols) - 1))
        yield one, Occupancy(one, r[entries], c[entries])


def _cut(
    region: Region,
    sizes: Sequence[tuple[int, int]],
    stock: Sequence[float],
    prices: Sequence[float],
    occupancy: Occupancy | None,
) -> list[Strip] | None:
    """Cut a region into strips, at the lowest price.

    The result is None if the stock has no kind that fits any more. Positions count from
    the corner of the region.
    """
    top, bottom, left, right = region
    heights = sorted({height for height, _ in sizes}, reverse=True)
    found: dict[tuple[int, ...], tuple[float, list[tuple[int, int]]]] = {}

    def label(at: int, i: int) -> tuple[int, ...]:
        start, end = at, min(at + heights[i], bottom - top)
        if occupancy is None:  # strips differ only in the number of arrays per stack
            return tuple(-(-(end - start) // height) for height, _ in sizes)
        return start, end

    def strip(at: int, i: int) -> float:
        if label(at, i) not in found:
            bounds = (top + at, min(top + at + heights[i], bottom), left, right)
            found[label(at, i)] = _columns(bounds, sizes, stock, prices, occupancy)
        return found[label(at, i)][0]

    advance = _advance(occupancy, *region, axis=0)
    cost, path = _cheapest_path(bottom - top, heights, strip, advance)
    if cost == math.inf:
        return None
    strips = []
    for at, i in path:
        end = min(at + heights[i], bottom - top)
        stacks = [
            [
                Place(
                    top=row,
                    bottom=min(row + sizes[kind][0], end),
                    left=start,
                    right=min(start + sizes[kind][1], right - left),
                    kind=kind,
                )
                for row in range(at, end, sizes[kind][0])
            ]
            for start, kind in found[label(at, i)][1]
        ]
        if occupancy is not None:
            stacks = [_holding(stack, top, left, occupancy) for stack in stacks]
        strips.append((at, end, stacks))
    return strips


def _holding(stack: list[Place], top: int, left: int, occupancy: Occupancy) -> list[Place]:
    """The places of a stack that hold a nonzero."""
    if len(stack) == 1:
        return stack
    t, b, l, r, _ = np.array(stack).T
    held = occupancy.counts(top + t, top + b, left + l, left + r) > 0
    return [place for place, holds in zip(stack, held, strict=True) if holds]


def _columns(
    strip: Region,
    sizes: Sequence[tuple[int, int]],
    stock: Sequence[float],
    prices: Sequence[float],
    occupancy: Occupancy | None,
) -> tuple[float, list[tuple[int, int]]]:
    """The price of a strip, and the start and kind of each of its columns."""
    top, bottom, left, right = strip
    # Among equal prices the largest array wins.
    kinds = sorted(range(len(sizes)), key=lambda k: -sizes[k][0] * sizes[k][1])
    advance = _advance(occupancy, *strip, axis=1)
    # A column can start only at these.
    if occupancy is None:
        starts = np.arange(right - left)
    else:
        starts = np.flatnonzero(occupancy.held(*strip, axis=1))
    steps = []
    for kind in kinds:
        height, width = sizes[kind]
        tops = np.arange(top, bottom, height)
        if occupancy is None:
            arrays = np.full(starts.shape, len(tops))
        else:
            before = occupancy.strips(tops, np.minimum(tops + height, bottom))
            first = left - occupancy.block.left + starts
            last = np.minimum(first + width, right - occupancy.block.left)
            arrays = (before[:, last] > before[:, first]).sum(axis=0)
        price = np.full(right - left, math.inf)
        price[starts] = np.where(arrays <= stock[kind], arrays * prices[kind], math.inf)
        steps.append(price.tolist())
    cost, path = _cheapest_path(
        right - left,
        [sizes[kind][1] for kind in kinds],
        lambda at, i: steps[i][at],
        advance,
    )
    return cost, [(at, kinds[i]) for at, i in path]


def _advance(
    occupancy: Occupancy | None,
    top: int,
    bottom: int,
    left: int,
    right: int,
    *,
    axis: int,
) -> Sequence[int]:
    """For each row or column of a region, itself or the next one that holds a nonzero."""
    first, last = (top, bottom) if axis == 0 else (left, right)
    if occupancy is None:
        return range(last - first + 1)
    end = last - first
    held = occupancy.held(top, bottom, left, right, axis=axis)
    places = np.full(end + 1, end)
    places[:-1][held] = np.flatnonzero(held)
    return np.minimum.accumulate(places[::-1])[::-1].tolist()


def _cheapest_path(
    length: int,
    pieces: Sequence[int],
    price: Callable[[int, int], float],
    advance: Sequence[int],
) -> tuple[float, list[tuple[int, int]]]:
    """Cover a line by pieces, at the lowest price.

    Among equal prices the piece that comes first in the list wins.

    **Returns:** the price, and the start and the number of each piece.
    """
    start = advance[0]
    best = {start: (0.0, start, -1)}
    queue = [start]
    while queue:
        at = heapq.heappop(queue)
        if at >= length:
            break
        for i, piece in enumerate(pieces):
            step = price(at, i)
            if step == math.inf:
                continue
            to = advance[min(at + piece, length)]
            total = best[at][0] + step
            if to not in best:
                heapq.heappush(queue, to)
            elif total >= best[to][0]:
                continue
            best[to] = (total, at, i)
    if length not in best:
        return math.inf, []
    path, at = [], length
    while at != start:
        _, at, i = best[at]
        path.append((at, i))
    return best[length][0], path[::-1]
