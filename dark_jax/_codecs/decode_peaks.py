"""Decoding several peaks of a map."""

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
from dark_jax._codecs.dark_settings import DarkSettings, check_settings
from dark_jax._core import checks
from dark_jax._core.batching import of_each, other_sizes, redone_unless
from dark_jax._core.keypoints import Keypoints, Status
from dark_jax._core.numerics import as_float
from dark_jax._ops.flat_top import at_middle
from dark_jax._ops.peak import Peak
from dark_jax._ops.pixels import box, read, stored

# The kinds of pixels that have the maximum of their box: the first such pixel, or a tie with it.
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
        # One more peak than there are slots is taken. It may share a plateau with the last one.
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
    """The map minus the background; without a background, the map as it is stored."""
    return heatmap if background is None else as_float(heatmap) - background


def _with_scores(
    found: Keypoints, heatmap: jax.Array, peaks: Peak, background: jax.Array | None
) -> Keypoints:
    """Keypoints whose scores are the values of the map itself, not those above the background."""
    if background is None:
        return found
    values = as_float(heatmap).at[peaks.position[::-1]].get(mode="promise_in_bounds")
    taken = (peaks.score > 0) & ~jnp.isnan(peaks.score[0])  # neither empty nor NaN
    return dataclasses.replace(found, scores=jnp.where(taken, values, found.scores))


def _refined(heatmap: jax.Array, peaks: Peak, settings: DarkSettings) -> Keypoints:
    def refined(peak: Peak) -> dark_step.Refined:
        start = at_middle(heatmap, peak)
        # A plateau may pass beside a higher peak. Then its middle may be on the flank of that peak.
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
    """The maximum before each value along an axis, the value itself, and the maximum after it.

    The maxima are those of the magnitudes of ``distance`` values. They are found by doubling:
    windows of 1, 2, 4, ... are joined.
    """
    size = values.shape[axis]
    pad = [(distance if other == axis else 0,) * 2 for other in range(values.ndim)]
    # All three are taken from one stored array, or XLA would compute the values again for each.
    padded = lax.optimization_barrier(jnp.pad(values, pad))

    def part(windows: jax.Array, start: int, count: int) -> jax.Array:
        # Magnitudes are taken for each part, because those of the whole array would be stored too.
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
    """The map with NaN ranked highest, so that the highest peak shows whether there is a NaN."""
    values = lax.stop_gradient(as_float(heatmap))
    largest = float(jnp.finfo(values.dtype).max)
    return jnp.where(jnp.isnan(values), jnp.inf, jnp.minimum(values, largest))


def _tops(heatmap: jax.Array, high: jax.Array, distance: int) -> tuple[jax.Array, jax.Array]:
    """The values of the tops, zero elsewhere; and the kinds of all pixels, uint8.

    A top is a ``high`` pixel that is higher than all pixels before it in the box around it, and not
    lower than those after. Its kind is ``_TOP``. Other ``high`` pixels that tie with the maximum of
    their box are ``_TIES``. The box grows axis by axis. Its maximum is negated where the pixel in
    the middle is the first to have it, so that one array is kept and not three.
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
    """Whether every pixel that ties touches a top, or another pixel that ties, before it.

    Then it is on the plateau of a top. Any other may have lost to a pixel that is not a peak.
    """
    padded = jnp.pad(kinds, 1)
    joined = jnp.where(kinds == _TIES, jnp.uint8(0), jnp.uint8(1))
    for offset in itertools.product(range(3), repeat=kinds.ndim):
        if offset < (1,) * kinds.ndim:
            stop = [start + size for start, size in zip(offset, kinds.shape, strict=True)]
            joined |= lax.slice(padded, offset, stop)
    return jnp.all(joined > 0)


def _greatest(values: jax.Array, distance: int) -> jax.Array:
    """The maximum of the box around each value; no value may be negative."""
    for axis in range(values.ndim):
        values = functools.reduce(jnp.maximum, _beside(values, distance, axis))
    return values


def _taken_in_turn(highest: jax.Array, distance: int) -> jax.Array:
    """The peaks, by definition, among the pixels that are highest in their box.

    Each pixel is taken in its turn, unless one that was taken before is within ``distance`` or on
    its plateau. A plateau consists of connected pixels, each of which is highest in its box.
    """
    rank = jnp.int32(highest.size) - _indices(highest.shape)  # the first pixel ranks highest

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
        # These are the pixels whose turn it is, whether the others are taken or not.
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
    """The ``count`` highest tops; all arrays are ``[count]``.

    No two tops are within ``distance``. So a cell of ``distance + 1`` pixels along each axis holds
    at most one, and cells are sorted instead of pixels.
    """
    best = tops, _indices(tops.shape)
    for axis in range(heatmap.ndim):
        best = _best_of_cells(*best, axis, distance + 1)
    scores, index = (jnp.pad(leaf.reshape(-1), (0, max(count - leaf.size, 0))) for leaf in best)
    scores, cell = lax.top_k(scores, count)
    index = index.at[cell].get(mode="promise_in_bounds")
    # The values are read, so that the gradient goes to these pixels.
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

    One reduction of two operands is used, which writes neither the maps nor a mask to memory.
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

    A plateau that holds two peaks reaches the rim of the box around each of them.
    """
    offsets = box((distance,) * heatmap.ndim)
    rim = offsets[np.abs(offsets).max(axis=1) == distance]
    around = jax.vmap(lambda *position: read(heatmap, position, rim))(*peaks.position)
    wide = jnp.any(around == peaks.score[:, None], axis=1) & (peaks.score > 0)
    # Peaks are sorted, so equal ones are next to each other.
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
    """Find the sub-pixel keypoints of all peaks of each map: persons, animals or particles.

    A peak is a pixel above ``threshold`` that is the maximum of a box of ``min_distance`` pixels
    to each side. Each peak is refined as by :func:`decode`. A plateau is one peak, which is
    refined from its middle. Of equal peaks within ``min_distance``, the first in row-major order
    is taken.

    Args:
        heatmaps: array of real numbers ``[..., H, W]``. Other layouts are described by ``axes``.
        threshold: a peak is higher than this, and than the background. A number or an array that
            broadcasts to the shape of ``heatmaps`` without ``axes``; may be traced.
        max_peaks: the number of slots for each map, at least 1; static. The highest peaks take
            them. If no slot is empty, there may be more peaks. The time grows with this number.
        min_distance: two peaks differ by more than this many pixels along at least one axis; at
            least 1; static.
        background: value of the map far from any blob: a number or an array that broadcasts like
            ``threshold``; may be traced. It is subtracted before the logarithm.
        kernel_size: odd size of the blur in pixels, as for :func:`decode`; static. The default is
            5.
        blur_sigma: sigma of a true Gaussian blur in pixels, as for :func:`decode`; static.
        covariance: estimate the covariance of the coordinates, as for :func:`decode`; static.
        axes: the axes of one map, in increasing order, as for :func:`decode`; static.

    Returns:
        :class:`Keypoints` with one more axis, the slots, sorted by score:
        ``coords [..., max_peaks, dim]`` in heatmap pixels, ``scores [..., max_peaks]``, the raw
        values at the peaks, and ``status [..., max_peaks]``. An empty slot has coordinates 0,
        score 0 and ``NO_PEAK``.

    Notes:
        A NaN in a map sets all its slots to NaN and ``NOT_FINITE``.

        An image is searched a second time, with a slower method, if it has a plateau wider than
        the box, or a pixel whose box has an equal maximum elsewhere that is itself not a peak.
        That choice depends on the data; see ``help(dark_jax)``.

    Raises:
        TypeError: an array does not hold real numbers; ``max_peaks``, ``min_distance``,
            ``kernel_size`` or ``axes`` are not integers; ``blur_sigma`` is not a number or is
            traced.
        ValueError: ``heatmaps`` lacks the axes or its maps are empty; ``threshold`` or
            ``background`` is NaN or does not broadcast; ``max_peaks`` or ``min_distance`` is
            below 1; ``kernel_size``, ``blur_sigma`` or ``axes`` are not valid for :func:`decode`.

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
        Points, 2019, arXiv:1904.07850. The step is that of :func:`decode`.
    """
    heatmaps, axes = checks.maps_along("heatmaps", heatmaps, axes)
    count = checks.at_least_one("max_peaks", max_peaks)
    distance = checks.at_least_one("min_distance", min_distance)
    others = other_sizes(heatmaps.shape, axes)
    threshold = checks.not_nan("threshold", threshold, others)
    if background is None:
        raise TypeError(
            "background must be a number or an array, got None: only decode_fit estimates it"
        )
    known = isinstance(background, int | float) and background == 0  # zero costs nothing
    floor = None if known else checks.not_nan("background", background, others)
    settings = check_settings(
        rules.GUARDED,
        dim=len(axes),
        kernel_size=kernel_size,
        blur_sigma=blur_sigma,
        covariance=covariance,
    )
    return _decode_peaks(
        heatmaps, threshold, floor, count=count, distance=distance, settings=settings, axes=axes
    )
