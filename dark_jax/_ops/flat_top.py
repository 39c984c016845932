"""The middle of a flat top: of the pixels around a peak that tie with it and touch.

A saturated sigmoid, clipped bytes and disks have many equal maxima. The first of them, in
row-major order, is a corner of what they cover.
"""

import functools
import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from dark_jax._ops.peak import FlatTop, Peak
from dark_jax._ops.pixels import Position, box, inside, read, stored

# Pixels from the first tie, along every axis, beyond which no tie counts.
REACH = 7
# Down the rows, up, and so on: that follows all shapes but those that wind further.
SWEEPS = 4
# In volumes: how many rows a way from the first may pass.
TURNS = 16

# A row is read as the bits of an integer: whole vectors of 16 pixels are read faster than 15.
# The first tie has the bit in the middle.
_READ = 16
_FIRST = 1 << REACH
_FURTHEST = int(np.iinfo(np.int32).max)
# Every axis has 4 bits for a place, from -REACH up, and 5 for sixteenths of a pixel, from -1 up.
_PLACE, _BITS = 4, 9
# Of a top of radius r pixels the centroid is within SLACK / r of the middle of the blob under it:
# measured on saturated sigmoids, clipped bytes and disks. As 1 to 13 parts of a pixel.
_SLACK, _PARTS, _MOST = 0.96, 28, 13
# In place of that: the top goes on beyond REACH; or it meets the edge of the map, or is hollow.
_NOT_WHOLE, _UNCLEAR = 14, 15
# The longest credible step in pixels where the top's own centroid is not known.
_LONGEST_UNKNOWN = 1.2
_UNMOVED = REACH | 16 << _PLACE


def at_middle(heatmap: jax.Array, peak: Peak, *, above: jax.Array | float = 0.0) -> Peak:
    """The first maximum moved to the middle of its flat top.

    To the tied pixel nearest to the centroid of those that are connected with the first. Pixels
    touch that share a face, an edge or a corner; those more than ``REACH`` from the first along
    an axis do not count. Of equally near ones the first in row-major order is taken. Values are
    compared in the map's own dtype. Where the peak is not ``above`` the background it stays: a
    map of zeros has no top.
    """
    dim = heatmap.ndim
    # Of a box around the first: nothing before it is tied.
    lines = box((REACH,) * (dim - 1))
    if dim > 1:
        lines = lines[lines[:, -1] >= 0]
    bits = _tied(heatmap, peak, lines)
    if dim < 3:
        # Row by row: an array with one more axis would be one more kernel of a GPU.
        rows = [
            _placed(bits[n], peak.position, heatmap.shape, line) for n, line in enumerate(lines)
        ]
        runs, places = _swept(rows), [*lines]
    else:
        rows = _placed(bits, peak.position, heatmap.shape, lines)
        runs, places = [_spread(rows.reshape(REACH + 1, -1)).reshape(-1)], [lines]
    unmoved = sum(_UNMOVED << _BITS * axis for axis in range(dim))
    middle, hollow = _middle(runs, places)
    kind = _kind(runs, places, _edges(peak.position, heatmap.shape, places))
    packed = jnp.where(hollow, _UNCLEAR, kind) << _BITS * dim | middle
    packed = jnp.where(peak.score > above, packed, unmoved)
    # This changes nothing. But XLA computes a remainder once for all who use it, because it is
    # slow; all of the above would be computed once for each.
    packed = lax.rem(packed, jnp.full_like(packed, _FURTHEST))
    position, centre = [], []
    for axis, at in enumerate(peak.position):
        position.append(at + (packed >> _BITS * axis & 15) - REACH)
        sixteenths = (packed >> _BITS * axis + _PLACE & 31) - 16
        centre.append(sixteenths.astype(peak.score.dtype) / 16)
    kind = packed >> _BITS * dim
    top = FlatTop(
        centre=tuple(centre),
        tolerance=kind.astype(peak.score.dtype) / _PARTS,
        wide=kind > 0,
        whole=kind < _NOT_WHOLE,
        unclear=kind == _UNCLEAR,
    )
    return Peak(tuple(position), peak.value, top)


def seen_from(heatmap: jax.Array, peak: Peak, position: Position) -> Peak:
    """The peak at a pixel that was found otherwise.

    If that pixel ties with the maximum it is on a flat top, of which no more is known.
    """
    here = read(heatmap, position, np.zeros((1, heatmap.ndim), np.int32))[0]
    top = FlatTop(
        centre=(jnp.zeros_like(peak.score),) * heatmap.ndim,
        tolerance=jnp.full_like(peak.score, jnp.inf),
        wide=here == peak.score,
        whole=jnp.bool_(True),
        unclear=jnp.bool_(False),
    )
    return Peak(position, peak.value, top)


def is_missed(
    heatmap: jax.Array, peak: Peak, step: Sequence[jax.Array], radii: Sequence[int]
) -> jax.Array:
    """Whether a ``step`` was made from pixels that do not show a wide flat top's middle.

    The top is unclear, or goes on to an end of the window of ``radii`` around the peak; or the
    step ends far from its centroid. Where that is not known the step is long, or the window
    leaves the map.
    """
    top = peak.top
    if top is None:
        return jnp.bool_(False)
    ends = np.diag(np.asarray(radii, np.int32))
    # One by one: a reduction of few would be a kernel of its own.
    each = [read(heatmap, peak.position, end[None])[0] for end in (*-ends, *ends)]
    cut = functools.reduce(jnp.logical_or, [pixel == peak.score for pixel in each])
    centre = [jnp.where(top.whole, away, 0) for away in top.centre]
    squares = [jnp.square(way - away) for way, away in zip(step, centre, strict=True)]
    far = jnp.where(top.whole, top.tolerance, _LONGEST_UNKNOWN)
    missed = functools.reduce(jnp.add, squares) > jnp.square(far)
    sides = zip(peak.position, heatmap.shape[::-1], radii, strict=True)
    leaves = [(at < radius) | (at + radius >= size) for at, size, radius in sides]
    missed |= ~top.whole & functools.reduce(jnp.logical_or, leaves)
    return top.wide & (top.unclear | cut | missed)


def _tied(heatmap: jax.Array, peak: Peak, lines: np.ndarray) -> jax.Array:
    """``[n]`` int32: the pixels along x that tie with the first, in lines at ``[n, dim - 1]``.

    Straight from memory, without indices of single pixels; as :func:`_placed` takes them.
    """
    flat = stored(lax.stop_gradient(heatmap)).reshape(-1)
    wide = min(_READ, flat.size)
    start, _ = _starts(peak.position, heatmap.shape, lines)
    slices = lax.GatherDimensionNumbers((1,), (), (0,))
    inbounds = lax.GatherScatterMode.PROMISE_IN_BOUNDS
    pixels = lax.gather(flat, start[:, None], slices, (wide,), mode=inbounds)
    hits = (pixels == lax.stop_gradient(peak.value)).astype(jnp.int32)
    return lax.reduce_or(hits << np.arange(wide, dtype=np.int32)[None], (1,))


def _starts(
    first: Position, shape: tuple[int, ...], lines: np.ndarray
) -> tuple[jax.Array, jax.Array]:
    """Where in memory the reads of ``lines`` start, and by how much they were moved to fit."""
    strides = np.cumprod([1, *shape[:0:-1]]).astype(np.int32)
    here = [at * stride for at, stride in zip(first, strides.tolist(), strict=True)]
    wanted = functools.reduce(jnp.add, here) - REACH + lines @ strides[1:]
    size = math.prod(shape)
    start = jnp.clip(wanted, 0, size - min(_READ, size))
    return start, start - wanted


def _placed(
    bits: jax.Array, first: Position, shape: tuple[int, ...], lines: np.ndarray
) -> jax.Array:
    """What was read in ``lines``, the first pixel's column in the middle; none off the map."""
    (x, *others), width = first, shape[-1]
    moved = jnp.clip(_starts(first, shape, lines)[1], -31, 31)
    bits = jnp.where(moved > 0, bits << jnp.maximum(moved, 0), bits >> jnp.maximum(-moved, 0))
    before, after = jnp.minimum(x, REACH), jnp.minimum(width - x, REACH + 1)
    bits &= (1 << (REACH + after)) - (1 << (REACH - before))
    if not others:
        return bits
    beside = tuple(at + step for at, step in zip(others, lines.T, strict=True))
    return jnp.where(inside(beside, shape[:-1], low=0, high=0), bits, 0)


def _filled(seeds: jax.Array, row: jax.Array) -> jax.Array:
    """The whole of every run of ones in ``row`` that holds one of the ``seeds``."""
    # Up by a carry, which goes through a run to its end; down by doubling.
    found, free = row & ((row + seeds) ^ row) | seeds, row
    for step in (1, 2, 4, 8):
        found |= free & (found >> step)
        free &= free >> step
    return found


def _touching(run: jax.Array) -> jax.Array:
    return run | run << 1 | run >> 1


def _swept(rows: list[jax.Array]) -> list[jax.Array]:
    """What is connected with the first pixel, of the first row.

    Unrolled: a loop would be a launch a row on a GPU.
    """
    runs = [_filled(jnp.full_like(rows[0], _FIRST), rows[0])]
    for row in rows[1:]:
        runs.append(_filled(_touching(runs[-1]) & row, row))
    down = [(n, n - 1) for n in range(1, len(rows))]
    up = [(there, here) for here, there in reversed(down)]
    for sweep in range(1, SWEEPS):
        for here, there in up if sweep % 2 else down:
            reached = _touching(runs[there]) & rows[here]
            runs[here] = _filled(runs[here] | reached, rows[here])
    return runs


def _spread(rows: jax.Array) -> jax.Array:
    """The same of ``[z, y]`` rows, the first pixel in the first plane: step by step, in a loop."""
    first = np.zeros(rows.shape, np.int32)
    first[0, REACH] = _FIRST
    depth, height = rows.shape
    corners = [(z, y) for z in range(3) for y in range(3)]

    def further(_: int, runs: jax.Array) -> jax.Array:
        padded = jnp.pad(_touching(runs), 1)
        near = [lax.slice(padded, (z, y), (z + depth, y + height)) for z, y in corners]
        return _filled(runs | functools.reduce(jnp.bitwise_or, near) & rows, rows)

    return lax.fori_loop(0, TURNS, further, rows & 0 | first)


def _middle(runs: list[jax.Array], places: list[np.ndarray]) -> tuple[jax.Array, jax.Array]:
    """The pixel of the ``runs`` nearest to their centroid, and in sixteenths of a pixel how far
    that is, packed; and whether it is more than one pixel: a ring, the arms of an L.

    ``places`` ``[..., dim - 1]`` are those of the rows, (y, z). All in whole numbers: places
    are multiplied by the number of pixels.
    """
    counts = [lax.population_count(run) for run in runs]
    count = _total(counts)
    # A pixel's place in its row, bit by bit.
    weights = [sum(1 << n for n in range(_READ) if n >> bit & 1) for bit in range(4)]
    along = [_total([lax.population_count(run & weight) for run in runs]) for weight in weights]
    totals = [functools.reduce(jnp.add, [total << bit for bit, total in enumerate(along)])]
    for axis in range(places[0].shape[-1]):
        each = [n * (place[..., axis] + REACH) for n, place in zip(counts, places, strict=True)]
        totals.append(_total(each))

    # The centroid's x, rounded down; by bisection, because of a quotient XLA makes two kernels;
    # without jnp.where of two constants, whose sum with a sharded array newest JAX refuses.
    floor = count & 0
    for bit in reversed(range(4)):
        floor += ((floor + (1 << bit)) * count <= totals[0]).astype(jnp.int32) << bit
    before = (2 << floor) - 1
    costs, codes = [], []
    for run, place in zip(runs, places, strict=True):
        # In each row the last pixel before the centroid and the first after it.
        left, right = run & before, run & ~before
        ends = [31 - lax.clz(left), 31 - lax.clz(right & -right)]
        far = [jnp.square(count * end - totals[0]) for end in ends]
        far = [
            jnp.where(side != 0, cost, _FURTHEST)
            for side, cost in zip((left, right), far, strict=True)
        ]
        cost, code = jnp.minimum(*far), jnp.where(far[0] <= far[1], *ends)
        for axis, total in enumerate(totals[1:]):
            cost += jnp.square(count * (place[..., axis] + REACH) - total)
            code += place[..., axis] + REACH << _PLACE * (axis + 1)
        costs.append(jnp.where(run != 0, cost, _FURTHEST))
        codes.append(code)
    nearest = _least(costs)
    tied = zip(costs, codes, strict=True)
    code = _least([jnp.where(cost == nearest, code, _FURTHEST) for cost, code in tied])

    packed, hollow = count & 0, jnp.bool_(False)
    for axis, total in enumerate(totals):
        place = code >> _PLACE * axis & 15
        left = total - count * place
        hollow |= jnp.abs(left) > count
        left = jnp.clip(left, -count, count)
        sixteenths = jnp.minimum(lax.div(16 * (left + count) + (count >> 1), count), 31)
        packed |= (place | sixteenths << _PLACE) << _BITS * axis
    return packed, hollow


def _edges(first: Position, shape: tuple[int, ...], places: list[np.ndarray]) -> list[jax.Array]:
    """Of each row the bits of pixels at an edge of the map."""
    (x, *others), (width, *sizes) = first, shape[::-1]
    # Bits shifted out of the row do not count.
    ends = 1 << jnp.maximum(REACH - x, -1) + 1 | 2 << jnp.minimum(REACH + width - 1 - x, _READ)
    found = []
    for place in places:
        outer = jnp.zeros(place.shape[:-1], bool)
        for at, size, step in zip(others, sizes, np.moveaxis(place, -1, 0), strict=True):
            outer |= (at + step == 0) | (at + step == size - 1)
        found.append(jnp.where(outer, -1, ends >> 1))
    return found


def _kind(runs: list[jax.Array], places: list[np.ndarray], edges: list[jax.Array]) -> jax.Array:
    """How far from the centroid a blob's middle may be, in parts of a pixel; 0 for a small top.

    Or that the top is not whole, or meets an edge of the map.
    """
    dim = places[0].shape[-1] + 1
    count = _total([lax.population_count(run) for run in runs])
    # A disk of this radius has as many pixels; the volume of a ball of radius 1 by dimensions.
    limit = int((_PARTS * _SLACK) ** dim * {1: 2, 2: math.pi, 3: 4 * math.pi / 3}[dim])
    parts = count & 0
    for bit in reversed(range(4)):
        more = parts | 1 << bit
        parts = jnp.where(functools.reduce(jnp.multiply, [more] * dim, count) <= limit, more, parts)
    reach = [
        np.where((np.abs(place) == REACH).any(axis=-1), -1, 1 | 1 << 2 * REACH).astype(np.int32)
        for place in places
    ]

    def meet(ends: Sequence[Any]) -> jax.Array:
        return _total([run & end for run, end in zip(runs, ends, strict=True)]) != 0

    kind = jnp.where(count > 3**dim, jnp.minimum(parts, _MOST), 0)
    kind = jnp.where(meet(reach), _NOT_WHOLE, kind)
    return jnp.where((kind > 0) & meet(edges), _UNCLEAR, kind)


def _total(parts: list[jax.Array]) -> jax.Array:
    return functools.reduce(jnp.add, [jnp.sum(part, dtype=jnp.int32) for part in parts])


def _least(parts: list[jax.Array]) -> jax.Array:
    return functools.reduce(jnp.minimum, [jnp.min(part) for part in parts])
