"""Gaussian targets: keypoints to heatmaps."""

import functools

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from dark_jax import checks
from dark_jax.peak import as_float

# Beyond this many sigmas a Gaussian is zero even in float64; bounding the distance keeps
# its square, and with it the gradient, finite.
_FAR = 40.0
# Half the side, in sigmas, of the square that quantised targets are cut to.
_CUT = 3.0


@functools.partial(jax.jit, static_argnames=("size", "quantize"))
def _encode(
    coords: jax.Array,
    sigma: jax.Array,
    visible: jax.Array,
    *,
    size: tuple[int, int],
    quantize: bool,
) -> jax.Array:
    coords = as_float(coords)
    joints = coords.shape[:-1]
    sigma = jnp.broadcast_to(sigma.astype(coords.dtype), joints)
    drawn = jnp.broadcast_to(as_float(visible) > 0, joints) & jnp.all(jnp.isfinite(coords), axis=-1)
    drawn &= (sigma > 0) & jnp.isfinite(sigma)
    coords = jnp.where(drawn[..., None], coords, 0)
    sigma = jnp.where(drawn, sigma, 1)
    if quantize:
        coords = jnp.trunc(coords + 0.5)

    def profile(centre: jax.Array, length: int) -> jax.Array:
        pixels = jnp.arange(length, dtype=coords.dtype)
        distance = jnp.expand_dims(pixels, range(len(joints))) - centre[..., None]
        distance = jnp.clip(distance / sigma[..., None], -_FAR, _FAR)
        values = jnp.exp(-0.5 * distance * distance)
        return jnp.where(jnp.abs(distance) <= _CUT, values, 0) if quantize else values

    # The Gaussian is separable: H + W exponentials a map instead of H * W.
    height, width = size
    rows = jnp.where(drawn[..., None], profile(coords[..., 1], height), 0)
    return rows[..., :, None] * profile(coords[..., 0], width)[..., None, :]


def encode(
    coords: ArrayLike,
    *,
    size: tuple[int, int],
    sigma: ArrayLike = 2.0,
    visible: ArrayLike | None = None,
    quantize: bool = False,
) -> jax.Array:
    """Heatmaps of keypoints: Gaussians of height one at their exact, sub-pixel places.

    Args:
        coords: ``[..., 2]`` real, ``(x, y)`` in heatmap pixels, pixel centres at integers.
            A keypoint outside the map draws its tail; one that is not finite, nothing.
        size: ``(H, W)`` of the maps; static.
        sigma: standard deviation in pixels, a number or an array that broadcasts to
            ``coords.shape[:-1]``; may be traced. A traced value that is not positive and
            finite draws nothing.
        visible: booleans or numbers that broadcast to ``coords.shape[:-1]``; a keypoint
            whose value is not above zero draws nothing. All are drawn if not given.
        quantize: draw the biased targets of older code bases instead: centres rounded
            half up to a pixel, values beyond 3 sigma in x or y cut to zero; static.

    Returns:
        ``[..., H, W]`` float32 (float64 for float64 coordinates).

    Raises:
        TypeError: an array does not hold real numbers; ``size`` does not hold integers;
            ``quantize`` is no bool.
        ValueError: ``coords`` is not ``[..., 2]``; ``size`` is not a positive ``(H, W)``;
            a ``sigma`` known now is not positive and finite; ``sigma`` or ``visible``
            does not broadcast to ``coords.shape[:-1]``.

    References:
        Zhang et al., Distribution-Aware Coordinate Representation for Human Pose
        Estimation, CVPR 2020, arXiv:1910.06278, section 3.3 (unbiased encoding).
    """
    coords = checks.coordinates("coords", coords)
    joints = tuple(coords.shape[:-1])
    return _encode(
        coords,
        checks.positive_array("sigma", sigma, joints),
        checks.broadcastable("visible", True if visible is None else visible, joints),
        size=checks.map_size("size", size),
        quantize=checks.flag("quantize", quantize),
    )
