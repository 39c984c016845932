"""The middle of a flat top.

A flat top consists of the connected pixels that tie for the maximum of a map. Saturated sigmoids,
clipped bytes and disks have one. Its first pixel in row-major order is one of its corners.
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

# Ties that are more than this many pixels from the first one along an axis do not count.
REACH = 7
# The number of passes over the rows, down and up in turn. Shapes that wind more often than this
# are not followed to their end.
SWEEPS = 4
# In volumes, a path from the first tie may take this many steps from row to row.
TURNS = 16

# A row is read as the bits of an integer. 16 pixels are read faster than 15, because they fill
# whole vectors. Bit REACH stands for the column of the first tie.
_READ = 16
_FIRST = 1 << REACH
_FURTHEST = int(np.iinfo(np.int32).max)
# Each axis has 4 bits for the place of a pixel, counted from -REACH, and 5 bits for sixteenths of
# a pixel, counted from -1 pixel.
_PLACE, _BITS = 4, 9
# The centroid of a top with a radius of r pixels is within _SLACK / r pixels of the middle of the
# blob under it. This was measured on saturated sigmoids, clipped bytes and disks. The limit is
# stored as a number of parts, from 1 to _MOST; a pixel has _PARTS of them.
_SLACK, _PARTS, _MOST = 0.96, 28, 13
# These codes replace the limit: _NOT_WHOLE if the top may go on beyond REACH, _UNCLEAR if it meets
# the edge of the map or is hollow.
_NOT_WHOLE, _UNCLEAR = 14, 15
# The longest credible step in pixels where the centroid of the top is not known.
_LONGEST_UNKNOWN = 1.2
_UNMOVED = REACH | 16 << _PLACE


def at_middle(heatmap: jax.Array, peak: Peak, *, above: jax.Array | float = 0.0) -> Peak:
    """Move the first maximum to the middle of its flat top.

    The middle is the pixel of the top that is nearest to its centroid. Pixels that share a face,
    an edge or a corner are connected. Pixels more than ``REACH`` from the first one along an axis
    do not count. If several pixels are equally near, the first in row-major order is taken. Values
    are compared in the map's own dtype. A peak that is not higher than ``above``, the background,
    is not moved, because a map of zeros has no top.
    """
    dim = heatmap.ndim
    # Rows (in volumes, planes) before the first tie are not read, because they hold no tie.
    lines = box((REACH,) * (dim - 1))
    if dim > 1:
        lines = lines[lines[:, -1] >= 0]
    bits = _tied(heatmap, peak, lines)
    if dim < 3:
        # Rows are kept apart, because an array with one more axis would need one more GPU kernel.
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
    # This changes no value. But XLA computes a remainder only once for all of its uses, because it
    # is slow. Without it, XLA would compute all of the above once for each use.
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
    """Return the peak as seen from a pixel that was found in another way.

    If that pixel ties with the maximum, it is on a flat top. Nothing more is known of that top.
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
    """Whether a ``step`` was made from pixels that do not show the middle of a wide flat top.

    This is so if the top is unclear, if it extends to an end of the window of ``radii`` around the
    peak, or if the step ends far from its centroid. If the centroid is not known, it is also so if
    the step is long or if the window leaves the map.
    """
    top = peak.top
    if top is None:
        return jnp.bool_(False)
    ends = np.diag(np.asarray(radii, np.int32))
    # Pixels are compared one by one, because a reduction of so few would need its own kernel.
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
    """``[n]`` int32: a row for each of ``lines [n, dim - 1]``, with a bit for each tied pixel.

    Rows are read as slices of memory, without indices of single pixels. :func:`_placed` moves
    their bits into place.
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
    """Where the reads of ``lines`` start in memory, and how far they were moved to stay in it."""
    strides = np.cumprod([1, *shape[:0:-1]]).astype(np.int32)
    here = [at * stride for at, stride in zip(first, strides.tolist(), strict=True)]
    wanted = functools.reduce(jnp.add, here) - REACH + lines @ strides[1:]
    size = math.prod(shape)
    start = jnp.clip(wanted, 0, size - min(_READ, size))
    return start, start - wanted


def _placed(
    bits: jax.Array, first: Position, shape: tuple[int, ...], lines: np.ndarray
) -> jax.Array:
    """The bits that were read, moved so that bit ``REACH`` is the column of the first tie.

    Bits outside the map are zero.
    """
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
    """All bits of those runs of ones in ``row`` that hold one of the ``seeds``."""
    # Upwards, the carry of a sum goes through a run to its end. Downwards, shifts are doubled.
    found, free = row & ((row + seeds) ^ row) | seeds, row
    for step in (1, 2, 4, 8):
        found |= free & (found >> step)
        free &= free >> step
    return found


def _touching(run: jax.Array) -> jax.Array:
    return run | run << 1 | run >> 1


def _swept(rows: list[jax.Array]) -> list[jax.Array]:
    """The pixels of each row that are connected with the first tie, which is in the first row.

    The loop is unrolled, because a loop on a GPU would need one kernel launch per row.
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
    """As :func:`_swept` for rows ``[z, y]``, whose first plane holds the first tie.

    Each turn of a loop goes one row further.
    """
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
    """The pixel of ``runs`` that is nearest to their centroid, and whether ``runs`` are hollow.

    The pixel is packed with the centroid, which is counted from it in sixteenths of a pixel.
    ``runs`` are hollow if the centroid is more than one pixel away along an axis, as in a ring or
    between the arms of an L. ``places [..., dim - 1]`` are the places of the rows, (y, z). All
    numbers are integers, because places are multiplied by the number of pixels.
    """
    counts = [lax.population_count(run) for run in runs]
    count = _total(counts)
    # The places of the pixels in their rows are summed bit by bit.
    weights = [sum(1 << n for n in range(_READ) if n >> bit & 1) for bit in range(4)]
    along = [_total([lax.population_count(run & weight) for run in runs]) for weight in weights]
    totals = [functools.reduce(jnp.add, [total << bit for bit, total in enumerate(along)])]
    for axis in range(places[0].shape[-1]):
        each = [n * (place[..., axis] + REACH) for n, place in zip(counts, places, strict=True)]
        totals.append(_total(each))

    # The x of the centroid is rounded down. It is found by bisection, because XLA makes two kernels
    # of a quotient. jnp.where of two constants is avoided, because the newest JAX refuses to add it
    # to a sharded array.
    floor = count & 0
    for bit in reversed(range(4)):
        floor += ((floor + (1 << bit)) * count <= totals[0]).astype(jnp.int32) << bit
    before = (2 << floor) - 1
    costs, codes = [], []
    for run, place in zip(runs, places, strict=True):
        # These are the last pixel before the centroid and the first one after it in each row.
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
    """The bits of those pixels in each row that lie at an edge of the map."""
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
    """How far the middle of the blob may be from the centroid, in parts; 0 for a small top.

    A pixel has ``_PARTS`` parts. The result is ``_NOT_WHOLE`` for a top that is not whole, and
    ``_UNCLEAR`` for a top that meets an edge of the map.
    """
    dim = places[0].shape[-1] + 1
    count = _total([lax.population_count(run) for run in runs])
    # The radius of a top is that of a ball with as many pixels. The dictionary has the volume of a
    # ball of radius 1 for each number of axes.
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
