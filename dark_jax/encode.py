"""Gaussian targets: keypoints to heatmaps."""

import functools

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from dark_jax import checks
from dark_jax.floats import as_float

# Beyond this many sigmas a Gaussian is zero even in float64; a smaller sigma draws the same
# single pixel. Both keep squares and quotients, and with them the gradient, finite.
_FAR, _LEAST_SIGMA = 40.0, 1e-6
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
    sigma = jnp.maximum(jnp.where(drawn, sigma, 1), _LEAST_SIGMA)
    if quantize:
        coords = jnp.trunc(coords + 0.5)

    def profile(centre: jax.Array, length: int) -> jax.Array:
        pixels = jnp.expand_dims(jnp.arange(length, dtype=coords.dtype), range(len(joints)))
        distance, spread = pixels - centre[..., None], sigma[..., None]
        near = jnp.abs(distance) <= (_CUT if quantize else _FAR) * spread
        distance = jnp.where(near, distance, 0) / spread
        return jnp.where(near, jnp.exp(-0.5 * distance * distance), 0)

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
        quantize: draw the biased targets of older code bases instead: centres
            ``trunc(coords + 0.5)``, values beyond 3 sigma in x or y cut to zero; static.

    Returns:
        ``[..., H, W]`` float32 (float64 for float64 coordinates).

    Raises:
        TypeError: an array does not hold real numbers; ``size`` does not hold integers;
            ``quantize`` is no bool.
        ValueError: ``coords`` is not ``[..., 2]``; ``size`` is not a positive ``(H, W)``;
            a ``sigma`` known now is not positive and finite; ``sigma`` or ``visible``
            does not broadcast to ``coords.shape[:-1]``.

    Example:
        >>> import dark_jax
        >>> heatmap = dark_jax.encode([4.0, 2.0], size=(5, 7), sigma=1.0)
        >>> heatmap.shape, float(heatmap[2, 4])
        ((5, 7), 1.0)

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
