"""The expectation of the softmax of a map, which is differentiable everywhere."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
from jax import lax
from jax.typing import ArrayLike

from dark_jax._core import checks
from dark_jax._core.batching import of_each, other_sizes
from dark_jax._core.keypoints import Keypoints, Status, status_of
from dark_jax._core.numerics import as_float, inverse_power_of_two
from dark_jax._ops.flat_top import at_middle, is_missed
from dark_jax._ops.peak import Peak, find_peak
from dark_jax._ops.pixels import box, inside, read


def _weights(below: jax.Array, top: jax.Array, temperature: jax.Array) -> jax.Array:
    """``exp(below / temperature)``, where ``below`` is the value of a pixel minus ``top``.

    First and second derivatives are never NaN, however low the temperature is.
    """
    # With the top near one, a temperature lower than this gives weight to the highest pixels only.
    unit, least = inverse_power_of_two(jnp.abs(top)), float(jnp.finfo(top.dtype).eps) / 2**19
    inverse = 1 / jnp.maximum(temperature * unit, least)
    exponent = jnp.maximum(below * unit, -1e30) * inverse
    # Pixels below the limit have no weight. Their derivative is cut, because it would be zero times
    # infinity.
    return jnp.exp(jnp.where(exponent > -200, exponent, -200))


def _of_map(heatmap: jax.Array, peak: Peak, top: jax.Array, temperature: jax.Array) -> jax.Array:
    weights = _weights(as_float(heatmap) - top, top, temperature)

    def mean(axis: int, at: jax.Array) -> jax.Array:
        # Marginals are used, and places count from the peak, because long sums of large terms
        # cost digits.
        others = tuple(other for other in range(weights.ndim) if other != axis)
        along = jnp.sum(weights, axis=others)
        return at + jnp.sum(along * (jnp.arange(len(along), dtype=at.dtype) - at)) / jnp.sum(along)

    return jnp.stack([mean(weights.ndim - 1 - n, at) for n, at in enumerate(peak.coords)])


def _of_window(
    heatmap: jax.Array, peak: Peak, top: jax.Array, temperature: jax.Array, radius: int
) -> tuple[jax.Array, jax.Array]:
    """Coordinates, and whether the window does not show the middle of a flat top."""
    offsets = box((radius,) * heatmap.ndim)
    values = read(heatmap, peak.position, offsets)
    moved = tuple(at + step for at, step in zip(peak.position, offsets.T, strict=True))
    within = inside(moved, heatmap.shape, low=0, high=0)
    # Pixels outside the map have no weight. Their exponents must not overflow either.
    below = jnp.where(within, values, top) - top
    weights = jnp.where(within, _weights(below, top, temperature), 0)
    moments = [jnp.sum(weights * jnp.asarray(step, top.dtype)) for step in offsets.T]
    step = jnp.stack(moments) / jnp.sum(weights)
    return peak.coords + step, is_missed(heatmap, peak, [*step], (radius,) * heatmap.ndim)


def _debiased(coords: jax.Array, heatmap: jax.Array) -> jax.Array:
    """Coordinates without the bias of the pixels that are far away.

    With the sum C of exp(heatmap) over a side of W pixels, this is C / (C - 1) (x - W / (2 C)). C
    may overflow, so 1 / C is used.
    """
    values = as_float(heatmap)
    inverse = jnp.exp(-jnp.maximum(jax.nn.logsumexp(values), 0))
    # A sum of at most 1, of a map that is nowhere above zero, would give infinity or another sign.
    inverse = jnp.where(inverse < 1, inverse, 0)
    sides = jnp.asarray(heatmap.shape[::-1], coords.dtype)
    return (coords - 0.5 * sides * inverse) / (1 - inverse)


@functools.partial(jax.jit, static_argnames=("radius", "debias", "axes"))
def _decode_soft_argmax(
    heatmaps: jax.Array,
    temperature: jax.Array,
    *,
    radius: int | None,
    debias: bool,
    axes: tuple[int, ...],
) -> Keypoints:
    def one(heatmap: jax.Array, temperature: jax.Array) -> Keypoints:
        peak = find_peak(heatmap)
        # With an invalid temperature, the coordinates are those of the peak.
        hot = (temperature > 0) & jnp.isfinite(temperature)
        temperature = jnp.where(hot, temperature, 1)
        finite = jnp.isfinite(peak.score) & hot
        top = lax.stop_gradient(jnp.where(finite, peak.score, 0))
        temperature = temperature.astype(top.dtype)
        reasons = {Status.NOT_FINITE: ~finite, Status.NO_PEAK: ~(peak.score > 0)}
        if radius is None:
            coords = _of_map(heatmap, peak, top, temperature)
            if debias:
                coords = _debiased(coords, heatmap)
                # With a sum just above 1 they may be anywhere.
                sides = jnp.asarray(heatmap.shape[::-1], coords.dtype)
                outside = jnp.any((coords < -1) | (coords > sides))
                reasons |= {Status.STEP_TOO_LONG: outside}
        else:
            peak = at_middle(heatmap, peak)
            coords, flat = _of_window(heatmap, peak, top, temperature, radius)
            near = inside(peak.position, heatmap.shape, low=radius, high=radius)
            reasons |= {Status.BORDER: ~near, Status.NOT_CONCAVE: flat}
        known = jnp.where(jnp.isnan(peak.score), jnp.nan, peak.coords)
        coords, status = jnp.where(finite, coords, known), status_of(reasons)
        return Keypoints(coords=coords, scores=peak.score, status=status)

    return of_each(one, heatmaps, axes, temperature)


def decode_soft_argmax(
    heatmaps: ArrayLike,
    *,
    temperature: ArrayLike,
    radius: int | None = None,
    debias: bool = False,
    axes: tuple[int, ...] = (-2, -1),
) -> Keypoints:
    """Find keypoints as the expectation of ``softmax(heatmap / temperature)``.

    The expectation is taken over the whole map (DSNT), or over a window around the maximum, which
    ignores the rest of the map. Use it for networks that are trained with it, and as a loss.
    :func:`decode` is more accurate for all others.

    Args:
        heatmaps: array of real numbers ``[..., H, W]``, also logits. Other layouts are described
            by ``axes``.
        temperature: positive number, or an array that broadcasts to the shape of the scores; may
            be traced. A small temperature makes the softmax sharp: use 0.1 or less for maps
            between 0 and 1.
        radius: the window reaches so many pixels to each side of the maximum, and is cut at the
            edges of the map; static. The default is the whole map.
        debias: undo the pull of the far pixels towards the middle of the map, as networks with
            ``IntegralRegressionHead(debias=True)`` of mmpose need it; only for the whole map;
            static.
        axes: the axes of one map, in increasing order, as for :func:`decode`; static.

    Returns:
        :class:`Keypoints`: ``coords [..., dim]`` in heatmap pixels, ``scores [...]``, the raw
        maxima, and ``status [...]``.

    Notes:
        The coordinates are differentiable everywhere with respect to the maps and the
        temperature. They are the expectation even if the status is not ``REFINED``, except for
        ``NOT_FINITE``. ``NO_PEAK`` means that the maximum is not above zero, which is common for
        logits. ``BORDER`` means that the window is cut, which biases the result. ``NOT_CONCAVE``
        means that the middle of a flat top is unknown. The coordinates are NaN if the map
        contains a NaN. If it contains infinity, or if a traced temperature is not positive and
        finite, they are the integer peak, with status ``NOT_FINITE``. ``debias`` undoes nothing
        if the sum of ``exp(heatmap)`` is not above 1. ``STEP_TOO_LONG`` means that it has led
        more than a pixel out of the map.

        For the centroid of a map that is nowhere negative (ADNet, STAR), decode its logarithm,
        ``decode_soft_argmax(jnp.log(heatmaps), temperature=1.0)``. Scores are logarithms then, so
        the status is ``NO_PEAK`` for maxima up to 1.

    Raises:
        TypeError: an array does not hold real numbers; ``radius`` or ``axes`` are not integers;
            ``debias`` is not True or False.
        ValueError: ``heatmaps`` lacks the axes or its maps are empty; ``temperature`` is not
            positive and finite, or does not broadcast; ``radius`` is below 1; ``debias`` is True
            with a ``radius``; ``axes`` are not one to three in increasing order.

    Example:
        >>> import dark_jax
        >>> heatmaps = dark_jax.encode([[20.0, 30.5]], size=(64, 48))
        >>> dark_jax.decode_soft_argmax(heatmaps, temperature=0.05).coords.round(2).tolist()
        [[20.0, 30.5]]

    References:
        Nibali et al., Numerical Coordinate Regression with Convolutional Neural Networks, 2018,
        arXiv:1801.07372 (DSNT). Gu et al., Removing the Bias of Integral Pose Regression, ICCV
        2021 (``debias``). Doersch et al., TAPIR, ICCV 2023, arXiv:2306.08637 (in a disc
        around the maximum).
    """
    heatmaps, axes = checks.maps_along("heatmaps", heatmaps, axes)
    others = other_sizes(heatmaps.shape, axes)
    spread = checks.positive_array("temperature", temperature, others)
    if radius is not None:
        radius = checks.at_least_one("radius", radius)
    if checks.flag("debias", debias) and radius is not None:
        raise ValueError(
            f"debias must be False with a radius: it is for the whole map, got radius={radius}"
        )
    return _decode_soft_argmax(heatmaps, spread, radius=radius, debias=debias, axes=axes)
