"""The middle of a flat top: of the pixels around a peak that tie with it and touch.

A saturated sigmoid, clipped bytes and disks have many equal maxima. The first of them, in
row-major order, is a corner of what they cover.
"""

import functools
import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from dark_jax._ops.peak import FlatTop, Peak
from dark_jax._ops.pixels import box, inside, stored

# Pixels from the first tie, along every axis, beyond which no tie counts.
REACH = 7
# Down the rows, up, and down again: that follows all shapes but those that wind further.
SWEEPS = 3
# In volumes: how many pixels long a way from the first may be.
TURNS = 16

# A row is read as the bits of an integer: whole vectors of 16 pixels are read faster than 15.
# The first tie has the bit in the middle.
_READ = 16
_FIRST = 1 << REACH
_FURTHEST = int(np.iinfo(np.int32).max)
# Every axis has 4 bits for a place, from -REACH up, and 5 for sixteenths of a pixel, from -1 up.
_PLACE, _BITS = 4, 9
# Of a top of radius r pixels the centroid is within SLACK / r of the middle of the blob under it:
# measured on saturated sigmoids, clipped bytes and disks. In parts of a pixel.
_SLACK, _PARTS, _ANYWHERE = 0.96, 30, 15
_UNMOVED = REACH | 16 << _PLACE


def at_middle(heatmap: jax.Array, peak: Peak) -> Peak:
    """The first maximum moved to the middle of its flat top.

    To the tied pixel nearest to the centroid of those that are connected with the first. Pixels
    touch that share a face, an edge or a corner; those more than ``REACH`` from the first along
    an axis do not count. Of equally near ones the first in row-major order is taken. Values are
    compared in the map's own dtype. Where none is above zero the peak stays: a map of zeros has
    no top.
    """
    dim = heatmap.ndim
    # Of a box around the first: nothing before it is tied.
    lines = box((REACH,) * (dim - 1))
    if dim > 1:
        lines = lines[lines[:, -1] >= 0]
    rows = _tied(heatmap, peak, lines)
    if dim < 3:
        runs, places = _swept([*rows]), [*lines]
    else:
        runs, places = [_spread(rows.reshape(REACH + 1, -1)).reshape(-1)], [lines]
    unmoved = sum(_UNMOVED << _BITS * axis for axis in range(dim))
    packed = jnp.where(peak.value > 0, _middle(runs, places), unmoved)
    # This changes nothing. But XLA keeps a remainder, being dear, where several ask for it;
    # anything cheaper, all of the above with it, it would work out once for each.
    packed = lax.rem(packed, jnp.full_like(packed, _FURTHEST))
    position, centre = [], []
    for axis, at in enumerate(peak.position):
        position.append(at + (packed >> _BITS * axis & 15) - REACH)
        sixteenths = (packed >> _BITS * axis + _PLACE & 31) - 16
        centre.append(sixteenths.astype(peak.score.dtype) / 16)
    tolerance = (packed >> _BITS * dim).astype(peak.score.dtype) / _PARTS
    tolerance = jnp.where(tolerance < _ANYWHERE / _PARTS, tolerance, jnp.inf)
    return Peak(tuple(position), peak.value, FlatTop(tuple(centre), tolerance))


def is_cut(peak: Peak, around: jax.Array, radii: Sequence[int], *, beyond: int = 0) -> jax.Array:
    """Whether a flat top reaches the ends of the pixels ``around`` it, ``[n]`` of a box.

    Along some axis; or comes within ``beyond`` pixels of them, if it goes on further than it
    was followed.
    """
    if peak.top is None:
        return jnp.bool_(False)
    strides = np.cumprod([1, *(2 * radius + 1 for radius in radii[:-1])])
    middle = around.size // 2

    def reaches(radii: Sequence[int]) -> jax.Array:
        ends = np.array([r * s for r, s in zip(radii, strides, strict=True)])
        return jnp.any(around[middle + np.concatenate([-ends, ends])] == around[middle])

    cut = reaches(radii)
    if beyond:
        cut |= ~peak.top.known & reaches([radius - beyond for radius in radii])
    return peak.top.wide & cut


def _tied(heatmap: jax.Array, peak: Peak, lines: np.ndarray) -> jax.Array:
    """``[n]`` int32: the pixels along x that tie with the first, in lines at ``[n, dim - 1]``.

    Straight from memory, without indices of single pixels. Near the ends of the memory such a
    read is moved to fit, and its bits are moved back.
    """
    (x, *others), sizes = peak.position, heatmap.shape[::-1]
    strides = np.cumprod([1, *sizes[:-1]]).astype(np.int32)
    flat = stored(lax.stop_gradient(heatmap)).reshape(-1)
    wide = min(_READ, flat.size)
    here = [at * stride for at, stride in zip(peak.position, strides.tolist(), strict=True)]
    wanted = functools.reduce(jnp.add, here) - REACH + lines @ strides[1:]
    start = jnp.clip(wanted, 0, flat.size - wide)
    slices = lax.GatherDimensionNumbers((1,), (), (0,))
    inbounds = lax.GatherScatterMode.PROMISE_IN_BOUNDS
    pixels = lax.gather(flat, start[:, None], slices, (wide,), mode=inbounds)
    # Summed as floats, which are exact here: the CPU reduces integers several times slower.
    weights = jnp.asarray(2.0 ** np.arange(wide)[None], jnp.float32)
    hits = jnp.where(pixels == lax.stop_gradient(peak.value), weights, 0)
    bits = jnp.sum(hits, axis=1).astype(jnp.int32)
    moved = jnp.clip(start - wanted, -31, 31)
    bits = jnp.where(moved > 0, bits << jnp.maximum(moved, 0), bits >> jnp.maximum(-moved, 0))
    before, after = jnp.minimum(x, REACH), jnp.minimum(sizes[0] - x, REACH + 1)
    bits &= (1 << (REACH + after)) - (1 << (REACH - before))
    if not others:
        return bits
    beside = tuple(at + step for at, step in zip(others, lines.T, strict=True))
    return jnp.where(inside(beside, heatmap.shape[:-1], low=0, high=0), bits, 0)


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


def _middle(runs: list[jax.Array], places: list[np.ndarray]) -> jax.Array:
    """The pixel of the ``runs`` nearest to their centroid, and what is left to that; packed.

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

    # The centroid's x, rounded down; by bisection, because of a quotient XLA makes two kernels.
    floor = jnp.zeros_like(count)
    for bit in reversed(range(4)):
        floor += jnp.where((floor + (1 << bit)) * count <= totals[0], 1 << bit, 0)
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

    packed = _tolerance(runs, places, count) << _BITS * len(totals)
    for axis, total in enumerate(totals):
        place = code >> _PLACE * axis & 15
        left = jnp.clip(total - count * place, -count, count)
        sixteenths = jnp.minimum(lax.div(16 * (left + count) + (count >> 1), count), 31)
        packed |= (place | sixteenths << _PLACE) << _BITS * axis
    return packed


def _tolerance(runs: list[jax.Array], places: list[np.ndarray], count: jax.Array) -> jax.Array:
    """How far from the centroid a blob's middle may be, in parts of a pixel; 0 for a small top.

    ``_ANYWHERE`` where the top goes on beyond ``REACH``: its centroid is not known.
    """
    dim = places[0].shape[-1] + 1
    # A disk of this radius has as many pixels; the volume of a ball of radius 1 by dimensions.
    limit = int((_PARTS * _SLACK) ** dim * {1: 2, 2: math.pi, 3: 4 * math.pi / 3}[dim])
    found = jnp.zeros_like(count)
    for bit in reversed(range(4)):
        more = found | 1 << bit
        found = jnp.where(functools.reduce(jnp.multiply, [more] * dim, count) <= limit, more, found)
    ends = [
        np.where((np.abs(place) == REACH).any(axis=-1), -1, 1 | 1 << 2 * REACH).astype(np.int32)
        for place in places
    ]
    at_end = _total([lax.population_count(run & end) for run, end in zip(runs, ends, strict=True)])
    found = jnp.where(at_end > 0, _ANYWHERE, jnp.minimum(found, _ANYWHERE - 1))
    return jnp.where(count > 3**dim, found, 0)


def _total(parts: list[jax.Array]) -> jax.Array:
    return functools.reduce(jnp.add, [jnp.sum(part, dtype=jnp.int32) for part in parts])


def _least(parts: list[jax.Array]) -> jax.Array:
    return functools.reduce(jnp.minimum, [jnp.min(part) for part in parts])
