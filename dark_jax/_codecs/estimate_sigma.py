"""Estimating the sigma of the blobs of a batch."""

from __future__ import annotations

import functools
import math

import jax
import jax.numpy as jnp
from jax import lax
from jax.typing import ArrayLike

from dark_jax._core import checks
from dark_jax._core.batching import of_each, other_sizes
from dark_jax._core.numerics import inverse_power_of_two
from dark_jax._ops.gaussian_model import gauss_newton, residual_variance, window_at
from dark_jax._ops.peak import find_peak
from dark_jax._ops.quadratic import Quadratic

# The window in which a blob is fitted, in sigmas to each side.
REACH = 2.5
WIDTH_STEPS = 12
# The longest step: in sigmas for the place, in the logarithm for the sigma. A fit that would go
# further than this at the end has not settled.
LONGEST_RELATIVE_STEP = 0.3
# The sigma of a single bright pixel, in pixels.
NARROWEST_SIGMA = 0.3
# A clear blob is higher than this many standard deviations of its residuals.
CLEAR = 5.0


def _first_guess(values: jax.Array) -> list[jax.Array]:
    """The pixels from the middle down to half its height, on the longer side of each axis.

    The order is (x, y, ...).
    """
    middle = tuple(size // 2 for size in values.shape)
    ways = []
    for axis, centre in enumerate(middle):
        line = values[(*middle[:axis], slice(None), *middle[axis + 1 :])]
        above = (line >= line[centre] / 2).astype(values.dtype)
        sides = jnp.stack([above[centre:], above[centre::-1]])
        ways.append(jnp.max(jnp.sum(jnp.cumprod(sides, axis=1), axis=1)))
    return ways[::-1]


def _part(system: Quadratic, unknowns: range) -> Quadratic:
    """The system of some unknowns, where the others are held fixed."""
    return Quadratic(
        tuple(system.gradient[i] for i in unknowns),
        tuple(tuple(system.hessian[i][j] for j in unknowns) for i in unknowns),
    )


def _fitted(
    heatmap: jax.Array, background: jax.Array | None, *, widest: float, per_axis: bool
) -> tuple[jax.Array, jax.Array]:
    """The sigmas ``[dim]`` of the highest blob of a map, and whether the blob is clear.

    The sigmas are equal unless ``per_axis`` is True.
    """
    peak = find_peak(heatmap)
    dim, dtype = heatmap.ndim, peak.score.dtype
    floor = jnp.zeros((), dtype) if background is None else background.astype(dtype)
    with_floor = background is None
    window, finite = window_at(heatmap, peak.position, [math.ceil(REACH * widest)] * dim, floor)
    height = jnp.where(finite, peak.score - floor, 0)
    window = window._replace(values=window.values * inverse_power_of_two(height))

    widths = [(axis,) for axis in range(dim)] if per_axis else [tuple(range(dim))]
    # A single width is found together with the place. Several are found apart from it, because a
    # system of six unknowns is expensive to invert.
    count = dim + len(widths)
    blocks = [range(dim), range(dim, count)] if per_axis else [range(count)]

    def fit(at: jax.Array, sigma: jax.Array) -> tuple[jax.Array, jax.Array]:
        near = window.within([*at], [*(REACH * sigma)])
        step = gauss_newton(near, [*at], [*sigma], with_floor=with_floor, widths=widths)
        systems = [_part(step.system, block) for block in blocks]
        concave = functools.reduce(jnp.logical_and, [system.concave for system in systems])
        concave &= step.amplitude > 0
        further = jnp.concatenate([system.newton_step(concave) for system in systems])
        further /= jnp.append(sigma, jnp.ones(len(widths), dtype))
        settled = jnp.all(jnp.abs(further) < LONGEST_RELATIVE_STEP)
        left = residual_variance(near, step, count + 1 + with_floor)
        clear = step.amplitude > CLEAR * jnp.sqrt(jnp.where(left > 0, left, 0))
        return further, concave & settled & clear

    def improved(_: int, state: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        at, sigma = state
        further = jnp.clip(fit(at, sigma)[0], -LONGEST_RELATIVE_STEP, LONGEST_RELATIVE_STEP)
        sigma_next = jnp.clip(sigma * jnp.exp(further[dim:]), NARROWEST_SIGMA, widest)
        return at + sigma * further[:dim], sigma_next

    ways = jnp.stack(_first_guess(window.values))
    ways = ways if per_axis else jnp.broadcast_to(jnp.mean(ways), (dim,))
    start = jnp.clip((ways - 0.5) / math.sqrt(2 * math.log(2)), NARROWEST_SIGMA, widest)
    at, sigma = lax.fori_loop(0, WIDTH_STEPS, improved, (jnp.zeros(dim, dtype), start))
    _, good = fit(at, sigma)
    inner = jnp.all((sigma > NARROWEST_SIGMA) & (sigma < widest))
    return sigma, good & inner & (height > 0)


@functools.partial(jax.jit, static_argnames=("widest", "per_axis", "axes", "joint_axis"))
def _estimate_sigma(
    heatmaps: jax.Array,
    background: jax.Array | None,
    *,
    widest: float,
    per_axis: bool,
    axes: tuple[int, ...],
    joint_axis: int | None,
) -> jax.Array:
    fitted = functools.partial(_fitted, widest=widest, per_axis=per_axis)
    sigmas, good = of_each(fitted, heatmaps, axes, background)
    others = [axis for axis in range(heatmaps.ndim) if axis not in axes]
    over = tuple(n for n, axis in enumerate(others) if axis != joint_axis)
    clear = jnp.any(good, axis=over)[..., None]
    if 0 in sigmas.shape:  # the median of an empty array is an error
        median = jnp.full((*clear.shape[:-1], len(axes)), jnp.inf, sigmas.dtype)
    else:
        median = jnp.nanmedian(jnp.where(good[..., None], sigmas, jnp.nan), axis=over)
    found = jnp.where(clear, median, jnp.inf)
    return found if per_axis else found[..., 0]


def estimate_sigma(
    heatmaps: ArrayLike,
    *,
    joint_axis: int | None = None,
    per_axis: bool = False,
    background: ArrayLike | None = 0.0,
    max_sigma: float = 8.0,
    axes: tuple[int, ...] = (-2, -1),
) -> jax.Array:
    """Estimate the sigma of the blobs in a batch of heatmaps, for :func:`decode_fit`.

    A Gaussian is fitted to the highest blob of each map, for its place, height and width. The
    result is the median over all maps. It is the width of the blobs that the network returns,
    which is often larger than that of its training targets.

    Args:
        heatmaps: array of real numbers ``[..., H, W]``. Other layouts are described by ``axes``.
            Apply ``jax.nn.sigmoid`` to logits first.
        joint_axis: an axis of ``heatmaps`` to keep, for one sigma for each joint; static.
        per_axis: estimate one sigma for each axis, ``(x, y, ...)``; static. Use it for stacks
            whose slices are further apart than their pixels.
        background: value of the map far from any blob: a number or an array that broadcasts to
            the shape of ``heatmaps`` without ``axes``; may be traced. With None, a constant is
            fitted in each window.
        max_sigma: ignore blobs that seem wider than this, in pixels; static. The time for 2-D
            maps grows with its square.
        axes: the axes of one map, in increasing order, as for :func:`decode`; static.

    Returns:
        ``[]`` float32 (float64 for float64 maps) in pixels; ``[J]`` with ``joint_axis``,
        ``[dim]`` with ``per_axis``, ``[J, dim]`` with both.

    Notes:
        :func:`decode_fit` takes ``[]``, ``[dim]`` and ``[J, dim]`` as they are, and ``[J]`` as
        ``sigma[:, None]``. The result is infinite if no map has a clear blob, or if the batch is
        empty. Maps without a clear blob, or with several close together, do not affect the median
        as long as they are less than half. If the batch is sharded, the median needs
        communication between devices.

    Raises:
        TypeError: an array does not hold real numbers; ``joint_axis`` or ``axes`` are not
            integers; ``per_axis`` is not a bool; ``max_sigma`` is not a number or is traced.
        ValueError: ``heatmaps`` lacks the axes or its maps are empty; ``joint_axis`` is one of
            ``axes``; ``background`` is NaN or does not broadcast; ``max_sigma`` is not positive
            and finite; ``axes`` are not one to three in increasing order.

    Example:
        >>> import dark_jax
        >>> heatmaps = dark_jax.encode([[20.25, 30.5], [0.5, 18.75]], size=(64, 48), sigma=1.7)
        >>> round(float(dark_jax.estimate_sigma(heatmaps)), 3)
        1.7
        >>> stack = dark_jax.encode([20.5, 14.0, 6.2], size=(12, 28, 40), sigma=(2.0, 2.0, 1.0),
        ...                         axes=(-3, -2, -1))
        >>> dark_jax.estimate_sigma(stack, per_axis=True, axes=(-3, -2, -1)).round(3).tolist()
        [2.0, 2.0, 1.0]

    References:
        The fit is that of :func:`decode_fit`, with the width as one more unknown.
    """
    heatmaps, axes = checks.maps_along("heatmaps", heatmaps, axes)
    if joint_axis is not None:
        joint_axis = checks.other_axis("joint_axis", joint_axis, heatmaps.ndim, axes)
    if background is not None:
        others = other_sizes(heatmaps.shape, axes)
        background = checks.not_nan("background", background, others)
    widest = checks.positive("max_sigma", max_sigma)
    return _estimate_sigma(
        heatmaps,
        background,
        widest=widest,
        per_axis=checks.flag("per_axis", per_axis),
        axes=axes,
        joint_axis=joint_axis,
    )
