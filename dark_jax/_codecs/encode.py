"""Gaussian targets: keypoints to heatmaps."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from dark_jax._core import checks
from dark_jax._core.numerics import as_float

# Beyond the first number of sigmas, a Gaussian is zero even in float64. A sigma below the second
# number draws the same single pixel. Both keep squares, quotients and so the gradient finite.
_ZERO_BEYOND_SIGMAS, _LEAST_SIGMA = 40.0, 1e-6
# Half the side, in sigmas, of the square that quantised targets are cut to.
_CUT = 3.0


@functools.partial(jax.jit, static_argnames=("size", "quantize", "axes"))
def _encode(
    coords: jax.Array,
    sigma: jax.Array,
    visible: jax.Array,
    *,
    size: tuple[int, ...],
    quantize: bool,
    axes: tuple[int, ...],
) -> jax.Array:
    coords = as_float(coords)
    joints = coords.shape[:-1]
    sigma = jnp.broadcast_to(sigma.astype(coords.dtype), coords.shape)
    drawn = jnp.broadcast_to(as_float(visible) > 0, joints)
    drawn &= jnp.all(jnp.isfinite(coords) & (sigma > 0) & jnp.isfinite(sigma), axis=-1)
    coords = jnp.where(drawn[..., None], coords, 0)
    sigma = jnp.maximum(jnp.where(drawn[..., None], sigma, 1), _LEAST_SIGMA)
    if quantize:
        coords = jnp.trunc(coords + 0.5)

    def profile(axis: int, length: int, centre: jax.Array, spread: jax.Array) -> jax.Array:
        others = [other for other in range(len(joints) + len(axes)) if other != axis]
        pixels = jnp.expand_dims(jnp.arange(length, dtype=coords.dtype), others)
        distance, spread = pixels - jnp.expand_dims(centre, axes), jnp.expand_dims(spread, axes)
        near = jnp.abs(distance) <= (_CUT if quantize else _ZERO_BEYOND_SIGMAS) * spread
        distance = jnp.where(near, distance, 0) / spread
        return jnp.where(near, jnp.exp(-0.5 * distance * distance), 0)

    # The Gaussian is separable, so a map needs H + W exponentials instead of H * W.
    maps = jnp.expand_dims(drawn.astype(coords.dtype), axes)
    for n, (axis, length) in enumerate(zip(axes, size, strict=True)):
        maps = maps * profile(axis, length, coords[..., -1 - n], sigma[..., -1 - n])
    return maps


def encode(
    coords: ArrayLike,
    *,
    size: tuple[int, ...],
    sigma: ArrayLike | Sequence[Any] = 2.0,
    visible: ArrayLike | None = None,
    quantize: bool = False,
    axes: tuple[int, ...] = (-2, -1),
) -> jax.Array:
    """Draw heatmaps of keypoints: Gaussians of height one, centred at sub-pixel coordinates.

    Args:
        coords: ``[..., 2]`` real numbers, ``(x, y)`` in heatmap pixels, pixel centres at
            integers. With one or three ``axes``, ``[..., dim]``: ``(x,)`` or ``(x, y, z)``.
        size: the size ``(H, W)`` of the maps, or ``(W,)`` or ``(D, H, W)``; static.
        sigma: standard deviation in pixels: numbers that broadcast to ``coords``. ``2.0`` is for
            all, ``(2.0, 2.0, 1.0)`` for x, y and z, ``[[1.0], [3.0]]`` for each of two joints.
            May be traced.
        visible: booleans or numbers that broadcast to ``coords.shape[:-1]``. Keypoints whose
            value is not above zero are not drawn. The default draws all.
        quantize: draw the biased targets of older code: the centres are ``trunc(coords + 0.5)``,
            and values beyond 3 sigma along an axis are zero; static.
        axes: the axes of one map in the result, in increasing order, as for :func:`decode`;
            static. ``(-3, -2)`` draws channels-last maps.

    Returns:
        ``[..., H, W]`` float32, or float64 for float64 coordinates with x64; laid out as ``axes``
        describe.

    Notes:
        A keypoint outside the map draws the part of its Gaussian that is inside. A keypoint draws
        nothing if it is not finite, or if its sigma is traced and not positive and finite.

    Raises:
        TypeError: an array does not hold real numbers; ``size`` or ``axes`` are not integers;
            ``quantize`` is not a bool.
        ValueError: ``coords`` is not ``[..., dim]``; ``size`` is not ``dim`` positive integers;
            ``axes`` are not one to three axes of the result in increasing order; ``sigma`` is not
            positive and finite, or does not broadcast to ``coords``; ``visible`` does not
            broadcast to ``coords.shape[:-1]``.

    Example:
        >>> import dark_jax
        >>> heatmap = dark_jax.encode([4.0, 2.0], size=(5, 7), sigma=1.0)
        >>> heatmap.shape, float(heatmap[2, 4])
        ((5, 7), 1.0)

    References:
        Zhang et al., Distribution-Aware Coordinate Representation for Human Pose Estimation, CVPR
        2020, arXiv:1910.06278, section 3.3 (unbiased encoding).
    """
    axes = checks.map_axes("axes", axes)
    dim = len(axes)
    coords = checks.coordinates("coords", coords, layout=f"[..., {dim}]")
    size = checks.map_size("size", size, dim)
    joints = tuple(coords.shape[:-1])
    return _encode(
        coords,
        checks.sigmas("sigma", sigma, joints, dim),
        checks.broadcastable("visible", True if visible is None else visible, joints),
        size=size,
        quantize=checks.flag("quantize", quantize),
        axes=checks.axes_of("the heatmaps", (*joints, *size), axes),
    )
