"""The many peaks of a map."""

from __future__ import annotations

import dataclasses
import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.typing import ArrayLike

from dark_jax import rules
from dark_jax._codecs import dark_step
from dark_jax._codecs.dark_step import DarkSettings
from dark_jax._core import checks
from dark_jax._core.batching import of_each, other_sizes, redone_unless
from dark_jax._core.keypoints import Keypoints, Status
from dark_jax._core.numerics import as_float
from dark_jax._ops.flat_top import at_middle
from dark_jax._ops.peak import Peak
from dark_jax._ops.pixels import box, read, stored

# What a pixel that is the maximum of its box can be: the first that is, or one that ties with it.
_TOP, _TIES = 2, 1


@functools.partial(jax.jit, static_argnames=("count", "distance", "settings", "axes"))
def _decode_peaks(
    heatmaps: jax.Array,
    threshold: jax.Array,
    background: jax.Array | None,
    *,
    count: int,
    distance: int,
    settings: DarkSettings,
    axes: tuple[int, ...],
) -> Keypoints:
    def one(
        heatmap: jax.Array, threshold: jax.Array, background: jax.Array | None
    ) -> tuple[Keypoints, jax.Array, Peak]:
        above = _above(heatmap, background)
        tops, kinds = _tops(above, _ranked(heatmap) > threshold, distance)
        # One more than there are slots: it may share a plateau with the last.
        peaks = _highest(above, tops, distance, count + 1)
        slots = jax.tree.map(lambda leaf: leaf[:count], peaks)
        found = _with_scores(_refined(above, slots, settings), heatmap, slots, background)
        return found, kinds, peaks

    def is_exact(
        heatmap: jax.Array, kinds: jax.Array, peaks: Peak, background: jax.Array | None
    ) -> jax.Array:
        shared = _plateau_shared(_above(heatmap, background), peaks, distance)
        return _all_joined(kinds) & ~shared

    def again(heatmap: jax.Array, threshold: jax.Array, background: jax.Array | None) -> Keypoints:
        above = _above(heatmap, background)
        highest = _tops(above, _ranked(heatmap) > threshold, distance)[1] > 0
        tops = jnp.where(_taken_in_turn(highest, distance), _ranked(above), 0)
        slots = _highest(above, tops, distance, count)
        return _with_scores(_refined(above, slots, settings), heatmap, slots, background)

    others = other_sizes(heatmaps.shape, axes)
    dtype = as_float(jnp.zeros((), heatmaps.dtype)).dtype
    threshold = threshold.astype(dtype)
    if background is not None:
        background = background.astype(dtype)
    found, kinds, peaks = of_each(one, heatmaps, axes, threshold, background)
    none_ties = jnp.all(kinds != _TIES, axis=[*range(-len(axes), 0)])
    beside = jax.tree.map(lambda each: jnp.broadcast_to(each, others), (threshold, background))
    redone = functools.partial(redone_unless, levels=0)
    exact = redone(none_ties, none_ties, is_exact, heatmaps, axes, kinds, peaks, beside[1])
    return redone_unless(exact, found, again, heatmaps, axes, *beside)


def _above(heatmap: jax.Array, background: jax.Array | None) -> jax.Array:
    """What rises above the background; without one the map as it is stored."""
    return heatmap if background is None else as_float(heatmap) - background


def _with_scores(
    found: Keypoints, heatmap: jax.Array, peaks: Peak, background: jax.Array | None
) -> Keypoints:
    """With the map's own values for scores, instead of those above the background."""
    if background is None:
        return found
    values = as_float(heatmap).at[peaks.position[::-1]].get(mode="promise_in_bounds")
    taken = (peaks.score > 0) & ~jnp.isnan(peaks.score[0])  # neither empty nor of a spoilt map
    return dataclasses.replace(found, scores=jnp.where(taken, values, found.scores))


def _refined(heatmap: jax.Array, peaks: Peak, settings: DarkSettings) -> Keypoints:
    def refined(peak: Peak) -> dark_step.Refined:
        start = at_middle(heatmap, peak)
        # Level pixels may lead past a higher peak: there the middle is on its flank.
        beside = read(heatmap, start.position, box((1,) * heatmap.ndim))
        lower = jnp.all(beside <= peak.score)
        position = tuple(
            jnp.where(lower, at, first)
            for at, first in zip(start.position, peak.position, strict=True)
        )
        return dark_step.refine_from_window(heatmap, start.moved(position), settings)

    found, missing = jax.vmap(refined)(peaks), ~(peaks.score > 0)
    coords = jnp.where(missing[:, None], 0, found.coords)
    status = jnp.where(missing, jnp.int8(Status.NO_PEAK), found.status)
    spoilt = jnp.isnan(peaks.score[0])
    status = jnp.where(spoilt, jnp.int8(Status.NOT_FINITE), status)
    spread = found.covariance
    return Keypoints(
        coords=jnp.where(spoilt, jnp.nan, coords),
        scores=jnp.where(spoilt, jnp.nan, peaks.score),
        status=status,
        covariance=None if spread is None else jnp.where(spoilt, jnp.inf, spread),
    )


def _beside(values: jax.Array, distance: int, axis: int) -> tuple[jax.Array, jax.Array, jax.Array]:
    """The greatest magnitude of the ``distance`` values before each along an axis; the value
    itself; the greatest of those after.

    By doubling: windows of 1, 2, 4, ... are joined.
    """
    size = values.shape[axis]
    pad = [(distance if other == axis else 0,) * 2 for other in range(values.ndim)]
    # All three from one stored array, or XLA works out the values once more for each.
    padded = lax.optimization_barrier(jnp.pad(values, pad))

    def part(windows: jax.Array, start: int, count: int) -> jax.Array:
        # Of each part anew: magnitudes of the whole would be stored beside it.
        return jnp.abs(lax.slice_in_dim(windows, start, start + count, axis=axis))

    windows, width = padded, 1
    while 2 * width <= distance:
        count = windows.shape[axis] - width
        joined = part(windows, 0, count), part(windows, width, count)
        windows, width = jnp.maximum(*joined), 2 * width
    # Two windows that overlap make one of the whole distance.
    before, after = (
        jnp.maximum(part(windows, start, size), part(windows, start + distance - width, size))
        for start in (0, distance + 1)
    )
    return before, lax.slice_in_dim(padded, distance, distance + size, axis=axis), after


def _ranked(heatmap: jax.Array) -> jax.Array:
    """The map, NaN higher than all else: so a map's highest peak tells whether it holds one."""
    values = lax.stop_gradient(as_float(heatmap))
    largest = float(jnp.finfo(values.dtype).max)
    return jnp.where(jnp.isnan(values), jnp.inf, jnp.minimum(values, largest))


def _tops(heatmap: jax.Array, high: jax.Array, distance: int) -> tuple[jax.Array, jax.Array]:
    """Of pixels that are ``high`` the value, where it is higher than all before it in the box
    around it and not lower than those after, zero elsewhere; and which are tops and which tie
    with the first maximum of the box, uint8.

    The box grows axis by axis; its maximum is negated where the pixel in the middle has it
    first, so that one array is kept and not three.
    """
    values = _ranked(heatmap)
    greatest = jnp.maximum(values, 0)
    greatest = jnp.where(high, -greatest, greatest)
    for axis in reversed(range(values.ndim)):
        before, middle, after = _beside(greatest, distance, axis)
        largest = jnp.abs(middle)
        first = (middle < 0) & (largest > before) & (largest >= after)
        largest = jnp.maximum(largest, jnp.maximum(before, after))
        greatest = jnp.where(first, -largest, largest)
    ties = high & (values > 0) & (values == greatest)
    kinds = jnp.where(ties, jnp.uint8(_TIES), jnp.uint8(0))
    kinds = jnp.where(greatest < 0, jnp.uint8(_TOP), kinds)
    return jnp.maximum(-greatest, 0), kinds


def _all_joined(kinds: jax.Array) -> jax.Array:
    """Whether every pixel that ties touches one before it that does, or a top.

    Then it is on the plateau of a top. Any other may have lost to a pixel that is no peak.
    """
    padded = jnp.pad(kinds, 1)
    joined = jnp.where(kinds == _TIES, jnp.uint8(0), jnp.uint8(1))
    for offset in itertools.product(range(3), repeat=kinds.ndim):
        if offset < (1,) * kinds.ndim:
            stop = [start + size for start, size in zip(offset, kinds.shape, strict=True)]
            joined |= lax.slice(padded, offset, stop)
    return jnp.all(joined > 0)


def _greatest(values: jax.Array, distance: int) -> jax.Array:
    """The maximum of the box around each of some values that are not negative."""
    for axis in range(values.ndim):
        values = functools.reduce(jnp.maximum, _beside(values, distance, axis))
    return values


def _taken_in_turn(highest: jax.Array, distance: int) -> jax.Array:
    """Of the pixels that are highest, by definition, the peaks.

    Each in its turn, unless one taken before it is near or level. Level are those on one
    plateau: pixels that touch, each the highest of its box.
    """
    rank = jnp.int32(highest.size) - _indices(highest.shape)  # the first pixel has the highest

    def spread(state: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        found = jnp.where(highest, _greatest(state[0], 1), 0)
        return found, jnp.any(found != state[0])

    first = jnp.where(highest, rank, 0)
    plateaus, _ = lax.while_loop(lambda state: state[1], spread, (first, jnp.any(highest)))

    def greatest_of_plateau(values: jax.Array) -> jax.Array:
        """The maximum of some values over each pixel's plateau."""
        none = jnp.zeros(rank.size + 1, jnp.int32)
        every = none.at[plateaus.reshape(-1)].max(values.reshape(-1), mode="promise_in_bounds")
        return every.at[plateaus].get(mode="promise_in_bounds")

    def take(state: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        tops, left = state
        # All whose turn it is whatever becomes of the others.
        ranks = jnp.where(left, rank, 0)
        first = (ranks == _greatest(ranks, distance)) & (ranks == greatest_of_plateau(ranks))
        taken = (left & first).astype(jnp.int32)
        lost = (_greatest(taken, distance) > 0) | (greatest_of_plateau(taken) > 0)
        return tops | (taken > 0), left & ~lost

    start = jnp.zeros_like(highest), highest
    return lax.while_loop(lambda state: jnp.any(state[1]), take, start)[0]


def _indices(shape: tuple[int, ...]) -> jax.Array:
    """``shape`` int32, each pixel's index in row-major order."""
    index = jnp.zeros(shape, jnp.int32)
    for axis, size in enumerate(shape):
        index = index * jnp.int32(size) + lax.broadcasted_iota(jnp.int32, shape, axis)
    return index


def _highest(heatmap: jax.Array, tops: jax.Array, distance: int, count: int) -> Peak:
    """The ``count`` highest of the tops, no two of them within ``distance``; all ``[count]``.

    So a cell one pixel wider holds one at most, and cells are sorted instead of pixels.
    """
    best = tops, _indices(tops.shape)
    for axis in range(heatmap.ndim):
        best = _best_of_cells(*best, axis, distance + 1)
    scores, index = (jnp.pad(leaf.reshape(-1), (0, max(count - leaf.size, 0))) for leaf in best)
    scores, cell = lax.top_k(scores, count)
    index = index.at[cell].get(mode="promise_in_bounds")
    # Read, so that the gradient goes to these pixels.
    values = stored(heatmap).reshape(-1).at[index].get(mode="promise_in_bounds")
    position = []
    for size in heatmap.shape[::-1]:
        position.append(lax.rem(index, jnp.full_like(index, size)))
        index = lax.div(index, jnp.full_like(index, size))
    return Peak(tuple(position), jnp.where(scores > 0, values, jnp.zeros_like(values)))


def _best_of_cells(
    values: jax.Array, index: jax.Array, axis: int, side: int
) -> tuple[jax.Array, jax.Array]:
    """The highest value, and its index, of every ``side`` pixels along an axis.

    As one reduction of two operands: it writes neither the maps nor a mask to memory.
    """
    pad = [(0, -size % side if other == axis else 0) for other, size in enumerate(values.shape)]
    split = (*values.shape[:axis], -1, side, *values.shape[axis + 1 :])

    def better(a: tuple[jax.Array, ...], b: tuple[jax.Array, ...]) -> tuple[jax.Array, ...]:
        keep = a[0] >= b[0]
        return jnp.where(keep, a[0], b[0]), jnp.where(keep, a[1], b[1])

    cells = tuple(jnp.pad(leaf, pad).reshape(split) for leaf in (values, index))
    empty = tuple(jnp.zeros((), leaf.dtype) for leaf in cells)
    return lax.reduce(cells, empty, better, (axis + 1,))


def _plateau_shared(heatmap: jax.Array, peaks: Peak, distance: int) -> jax.Array:
    """Whether two of the peaks may be pixels of one plateau.

    A level way from one to the other leaves the box around either.
    """
    offsets = box((distance,) * heatmap.ndim)
    rim = offsets[np.abs(offsets).max(axis=1) == distance]
    around = jax.vmap(lambda *position: read(heatmap, position, rim))(*peaks.position)
    wide = jnp.any(around == peaks.score[:, None], axis=1) & (peaks.score > 0)
    # Equal peaks follow upon one another.
    equal = jnp.pad(peaks.score[1:] == peaks.score[:-1], (1, 1))
    return jnp.any(wide & (equal[1:] | equal[:-1]))


def decode_peaks(
    heatmaps: ArrayLike,
    *,
    threshold: ArrayLike,
    max_peaks: int = 100,
    min_distance: int = 3,
    background: ArrayLike = 0.0,
    kernel_size: int | None = None,
    blur_sigma: float | tuple[float, ...] | None = None,
    covariance: bool = False,
    axes: tuple[int, ...] = (-2, -1),
) -> Keypoints:
    """Sub-pixel keypoints of all peaks of each map: several persons, animals, particles.

    A peak is a pixel above ``threshold`` that is the maximum of the box of ``min_distance``
    pixels to each side. Each is refined as :func:`decode` refines the one of a map: the same
    window, guards and step, with a blur narrow enough to leave the neighbours out. A plateau is
    one peak, refined from its middle. Of equal peaks within ``min_distance`` of each other the
    first in row-major order is taken.

    Images with a plateau wider than the box, or with a pixel that ties with one that is no peak,
    are searched again, one after the other, with a slower method. That is chosen from the data:
    under a ``vmap`` of yours both branches run; on a batch sharded over an automatic mesh it costs
    collectives, and an explicit mesh refuses it. Use ``jax.shard_map`` there.

    Args:
        heatmaps: real, ``[..., H, W]`` or laid out as ``axes`` say. Computed in float32
            (float64 for float64 input under x64).
        threshold: a peak is higher than this, and than the background; a number or an array that
            broadcasts to the shape of ``heatmaps`` without ``axes``; may be traced.
        max_peaks: slots a map, at least 1; the highest peaks take them; static. Where all are
            taken there may be more peaks: give a larger number. The time grows with it.
        min_distance: peaks are further apart than this many pixels along some axis, at
            least 1; static.
        background: what a map is where no blob is; a number or an array that broadcasts as
            ``threshold`` does; may be traced. Logarithms are taken of what rises above it.
        kernel_size: odd size in pixels of the blur, as for :func:`decode`; static.
            5 if neither this nor ``blur_sigma`` is given.
        blur_sigma: blur with a true Gaussian of this many pixels, as for :func:`decode`; static.
        covariance: estimate it, as for :func:`decode`; static.
        axes: the axes of a map in increasing order, as for :func:`decode`; static.

    Returns:
        :class:`Keypoints` with one more axis, of ``max_peaks`` slots in the order of their
        scores (of equal ones by place, always the same): ``coords [..., max_peaks, dim]``,
        ``(x, y)`` in heatmap pixels; ``scores [..., max_peaks]``, the raw values at the peaks;
        ``status [..., max_peaks]``, a :class:`Status`. Slots without a peak have score 0,
        coordinates 0 and ``NO_PEAK``. A map that holds a NaN has NaN and ``NOT_FINITE`` in all.

    Raises:
        TypeError: an array does not hold real numbers; ``max_peaks``, ``min_distance``,
            ``kernel_size`` or ``axes`` are no integers; ``blur_sigma`` is no concrete number.
        ValueError: ``heatmaps`` lacks the axes or has an empty map; ``threshold`` or
            ``background``, when not traced, is NaN, or does not broadcast; ``max_peaks`` or
            ``min_distance`` is below 1;
            ``kernel_size``, ``blur_sigma`` or ``axes`` are not as :func:`decode` has them.

    Example:
        >>> import dark_jax
        >>> people = dark_jax.encode([[20.25, 30.5], [40.5, 12.25]], size=(64, 48)).max(0)
        >>> peaks = dark_jax.decode_peaks(people, threshold=0.1)
        >>> peaks
        Keypoints(coords float32[100,2], 2 REFINED, 98 NO_PEAK, no covariance)
        >>> peaks[peaks.found].coords.round(2).tolist()
        [[40.5, 12.25], [20.25, 30.5]]

    References:
        The search is non-maximum suppression by max-pooling, as in Zhou et al., Objects as
        Points, 2019, arXiv:1904.07850; the step is :func:`decode`'s.
    """
    heatmaps, axes = checks.maps_along("heatmaps", heatmaps, axes)
    count = checks.at_least_one("max_peaks", max_peaks)
    distance = checks.at_least_one("min_distance", min_distance)
    others = other_sizes(heatmaps.shape, axes)
    threshold = checks.not_nan("threshold", threshold, others)
    if background is None:
        raise TypeError(
            "background must be a number or an array, got None: decode_fit alone fits one"
        )
    known = isinstance(background, int | float) and background == 0  # costs nothing
    floor = None if known else checks.not_nan("background", background, others)
    settings = dark_step.check_settings(
        rules.GUARDED,
        dim=len(axes),
        kernel_size=kernel_size,
        blur_sigma=blur_sigma,
        covariance=covariance,
    )
    return _decode_peaks(
        heatmaps, threshold, floor, count=count, distance=distance, settings=settings, axes=axes
    )
