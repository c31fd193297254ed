"""Cut a matrix into rectangles that arrays of several sizes hold.

The patterns are two-stage guillotine cuts (Gilmore & Gomory 1965, Oper. Res. 13, 94):
strips of the height of some array, cut into columns of the width of some array, and a
column into a stack of arrays of one kind. Within these patterns, and for a large enough
stock, the choice is optimal: a strip is the cheapest path over its columns, and the matrix
the cheapest path over its strips. Where the stock runs out, what is left is cut anew
with what is left, so that a bounded stock is met greedily.
"""

import heapq
import math
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from typing import NamedTuple

import numpy as np

# Sides of the blocks that are packed one after another; larger arrays make larger blocks.
_PANEL = 1024


class Place(NamedTuple):
    """Half-open ranges of rows and columns of the matrix, and the kind of array."""

    top: int
    bottom: int
    left: int
    right: int
    kind: int


class Occupancy:
    """Where the nonzeros of a block lie: counts over any rectangle in O(1)."""

    def __init__(self, block: Place, rows: np.ndarray, cols: np.ndarray):
        self.block, self.rows, self.cols = block, rows, cols

    @cached_property
    def sums(self) -> np.ndarray:
        """Nonzeros above and to the left of each corner of a cell."""
        top, bottom, left, right, _ = self.block
        sums = np.zeros((bottom - top + 1, right - left + 1), np.int32)
        sums[self.rows - top + 1, self.cols - left + 1] = 1
        return sums.cumsum(0, out=sums).cumsum(1, out=sums)

    def counts(self, tops, bottoms, lefts, rights) -> np.ndarray:
        """Nonzeros in each rectangle; the bounds broadcast."""
        t, b = np.asarray(tops) - self.block.top, np.asarray(bottoms) - self.block.top
        l, r = np.asarray(lefts) - self.block.left, np.asarray(rights) - self.block.left
        s = self.sums
        return s[b, r] - s[t, r] - s[b, l] + s[t, l]

    def strips(self, tops, bottoms) -> np.ndarray:
        """Nonzeros of each strip of rows, to the left of each column of the block."""
        return self.sums[bottoms - self.block.top] - self.sums[tops - self.block.top]

    def held(self, top, bottom, left, right, *, axis) -> np.ndarray:
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
    known: dict | None = None,
) -> list[Place] | None:
    """Cover a matrix by arrays from a stock, at a low price.

    **Arguments:**

    - `shape`: of the matrix.
    - `sizes`: rows and columns of the matrix that an array of each kind holds.
    - `stock`: arrays of each kind; `math.inf` for as many as it takes.
    - `prices`: of one array of each kind, positive.
    - `occupied`: rows and columns of the nonzeros, if the rest need not be covered.
    - `known`: cuts found by earlier calls that differ in `stock` alone; it is added to.

    **Returns:**

    Disjoint places, or none if the stock does not suffice.
    """
    stock, known = list(stock), {} if known is None else known
    tallest = max(height for height, _ in sizes)
    needed = [-(-tallest // height) for height, _ in sizes]
    places: list[Place] = []
    for block, occupancy in _blocks(shape, sizes, occupied):
        pending = [block[:4]]
        while pending:
            region = top, bottom, left, right = pending.pop()
            # No column takes more arrays than this, so that a larger stock cuts alike.
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


def _take(strips, region, stock, places):
    """Take arrays for strips in turn; the regions that are left when a kind runs out."""
    top, bottom, left, right = region
    for start, end, columns in strips:
        for column in columns:
            kind = column[0].kind
            if len(column) > stock[kind]:
                rest = (top + start, top + end, left + column[0].left, right)
                return [(top + end, bottom, left, right), rest]
            stock[kind] -= len(column)
            places.extend(
                Place(top + t, top + b, left + l, left + r, k) for t, b, l, r, k in column
            )
    return []


def _blocks(shape, sizes, occupied) -> Iterator[tuple[Place, Occupancy | None]]:
    """Blocks whose sides the arrays divide, if that makes them no larger than twice."""
    sides = []
    for axis in (0, 1):
        unit = math.lcm(*(size[axis] for size in sizes))
        largest = max(size[axis] for size in sizes)
        unit = unit if unit <= 2 * _PANEL else largest
        sides.append(max(_PANEL // unit, 1) * unit)
    # The last block of each axis takes what is left, so that no narrow one remains.
    edges = []
    for extent, side in zip(shape, sides, strict=True):
        count = max(extent // side, 1)
        edges.append([i * side for i in range(count)] + [extent])
    rows, cols = edges

    def block(i, j):
        return Place(rows[i], rows[i + 1], cols[j], cols[j + 1], -1)

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


def _cut(region, sizes, stock, prices, occupancy):
    """Strips of a region: start, end, and the places of the stack of each column.

    None if no kind fits any more. Positions count from the corner of the region.
    """
    top, bottom, left, right = region
    heights = sorted({height for height, _ in sizes}, reverse=True)
    found = {}

    def label(at, i):
        start, end = at, min(at + heights[i], bottom - top)
        if occupancy is None:  # strips differ by the arrays in a stack alone
            return tuple(-(-(end - start) // height) for height, _ in sizes)
        return start, end

    def strip(at, i):
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
                Place(t, min(t + sizes[kind][0], end), l, r, kind)
                for t in range(at, end, sizes[kind][0])
                for r in [min(l + sizes[kind][1], right - left)]
            ]
            for l, kind in found[label(at, i)][1]
        ]
        if occupancy is not None:
            stacks = [_holding(stack, top, left, occupancy) for stack in stacks]
        strips.append((at, end, stacks))
    return strips


def _holding(stack, top, left, occupancy):
    """The places of a stack that hold a nonzero."""
    if len(stack) == 1:
        return stack
    t, b, l, r, _ = np.array(stack).T
    held = occupancy.counts(top + t, top + b, left + l, left + r) > 0
    return [place for place, holds in zip(stack, held, strict=True) if holds]


def _columns(strip, sizes, stock, prices, occupancy):
    """Price of a strip, and the start and kind of each of its columns."""
    top, bottom, left, right = strip
    # Of equal prices the largest array wins.
    kinds = sorted(range(len(sizes)), key=lambda k: -sizes[k][0] * sizes[k][1])
    advance = _advance(occupancy, *strip, axis=1)
    # A path stops at these alone.
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


def _advance(occupancy, top, bottom, left, right, *, axis) -> Sequence[int]:
    """For each line of a region the next one, itself included, that holds a nonzero."""
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
    """Cover a line by pieces; the price, and the start and the number of each piece.

    Of equal prices the piece that comes first in the list wins.
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
