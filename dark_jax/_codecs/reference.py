"""DarkPose's four functions, exactly. They are the reference that the project was created from."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from dark_jax import rules
from dark_jax._codecs.dark_settings import DarkSettings
from dark_jax._codecs.decode import decode_along
from dark_jax._codecs.integer_peaks import integer_peaks
from dark_jax._core import checks
from dark_jax._core.batching import of_each
from dark_jax._core.numerics import as_float, inverse_power_of_two, together
from dark_jax._ops.gaussian import opencv_kernel
from dark_jax._ops.pixels import read
from dark_jax._ops.rescale import blur_and_rescale
from dark_jax._ops.stencil import TAYLOR


def _maps(name: str, value: ArrayLike, *, layout: str) -> jax.Array | np.ndarray:
    """``value`` as maps of exactly this layout, whose last two axes are not empty."""
    array = checks.real_array(name, value)
    if len(array.shape) != len(layout.split(",")):
        raise ValueError(f"{name} must have shape {layout}, got {tuple(array.shape)}")
    checks.map_sides(name, tuple(array.shape), (-2, -1))
    return array


@jax.jit
def _get_max_preds(heatmaps: jax.Array) -> tuple[jax.Array, jax.Array]:
    coords, scores = integer_peaks(heatmaps, axes=(2, 3))
    scores = scores[..., None]
    return jnp.where(scores > 0, coords, 0), scores


def get_max_preds(heatmaps: ArrayLike) -> tuple[jax.Array, jax.Array]:
    """Find the integer peaks of a batch of heatmaps, as DarkPose does.

    Args:
        heatmaps: ``[B, J, H, W]`` real numbers.

    Returns:
        ``coords [B, J, 2]``, ``(x, y)`` in heatmap pixels, and ``maxvals [B, J, 1]``, the maximum
        of each map. Both are float32 (float64 for float64 maps with x64).

    Notes:
        The peak is the first maximum in row-major order. NaN counts as a maximum. The coordinates
        are (0, 0) if the maximum is not above zero.

    Raises:
        TypeError: ``heatmaps`` does not hold real numbers.
        ValueError: ``heatmaps`` is not ``[B, J, H, W]``, or H or W is 0.

    Example:
        >>> import numpy as np
        >>> import dark_jax
        >>> heatmaps = np.zeros((1, 1, 5, 7))
        >>> heatmaps[0, 0, 2, 4] = 0.9
        >>> coords, maxvals = dark_jax.get_max_preds(heatmaps)
        >>> coords[0, 0].tolist(), round(float(maxvals[0, 0, 0]), 3)
        ([4.0, 2.0], 0.9)

    References:
        ``get_max_preds`` of DarkPose (Zhang et al., CVPR 2020, arXiv:1910.06278).
    """
    return _get_max_preds(_maps("heatmaps", heatmaps, layout="[B, J, H, W]"))


@functools.partial(jax.jit, static_argnames="kernel")
def _gaussian_blur(heatmaps: jax.Array, *, kernel: int) -> jax.Array:
    weights = (opencv_kernel(kernel),) * 2
    return of_each(lambda heatmap: blur_and_rescale(heatmap, weights)[0], heatmaps, (2, 3))


def gaussian_blur(heatmaps: ArrayLike, kernel: int = 3) -> jax.Array:
    """Blur a batch of heatmaps and rescale each to keep its maximum, as DarkPose does.

    Args:
        heatmaps: ``[B, J, H, W]`` real numbers.
        kernel: odd size of the kernel in pixels, at least 1; static. 1 does not blur.

    Returns:
        ``[B, J, H, W]`` float32 (float64 for float64 maps with x64).

    Notes:
        The blur is a convolution with zero padding. The coefficients are those of OpenCV 4's
        ``GaussianBlur(..., (kernel, kernel), 0)``: fixed tables up to size 7, and a Gaussian with
        ``sigma = 0.3 ((kernel - 1) / 2 - 1) + 0.8`` above. OpenCV 5 has a table for 9 too. A map
        whose blurred maximum is zero is not rescaled. Unlike the original, the argument is not
        changed, and integer maps are not rounded back to integers.

    Raises:
        TypeError: ``heatmaps`` does not hold real numbers, or ``kernel`` is not an integer.
        ValueError: ``heatmaps`` is not ``[B, J, H, W]``, H or W is 0, or ``kernel`` is even or
            below 1.

    Example:
        >>> import numpy as np
        >>> import dark_jax
        >>> heatmaps = np.zeros((1, 1, 5, 5))
        >>> heatmaps[0, 0, 2, 2] = 1
        >>> dark_jax.gaussian_blur(heatmaps)[0, 0, 2].tolist()
        [0.0, 0.5, 1.0, 0.5, 0.0]

    References:
        ``gaussian_blur`` of DarkPose (Zhang et al., CVPR 2020, arXiv:1910.06278).
    """
    return _gaussian_blur(
        _maps("heatmaps", heatmaps, layout="[B, J, H, W]"),
        kernel=checks.odd_kernel("kernel", kernel),
    )


@jax.jit
def _taylor(heatmap: jax.Array, coord: jax.Array) -> jax.Array:
    coord = as_float(coord)
    height, width = heatmap.shape
    # Coordinates are truncated towards zero, and clipped so that a far or NaN one is a valid index.
    x, y = (
        jnp.nan_to_num(jnp.clip(coord[i], -1, size)).astype(jnp.int32)
        for i, size in enumerate((width, height))
    )
    log_values = read(heatmap, (x, y), TAYLOR.offsets(2))
    # Any scale gives the same step, but the determinant overflows or vanishes at some of them.
    log_values *= inverse_power_of_two(jnp.max(jnp.abs(log_values)))
    model = TAYLOR.quadratic(log_values, 2)
    step = model.newton_step(TAYLOR.inside((x, y), heatmap.shape) & (model.det != 0))
    return jnp.add(*together(coord, step))


def taylor(heatmap: ArrayLike, coord: ArrayLike) -> jax.Array:
    """Move an integer peak to the maximum of the second-order expansion, as DarkPose does.

    Args:
        heatmap: ``[H, W]`` real numbers, the logarithm of a blurred heatmap.
        coord: ``[2]`` real numbers, the peak ``(x, y)`` in heatmap pixels. It is truncated to
            integers to choose the pixel of the expansion.

    Returns:
        ``[2]`` float32 (float64 if either argument is): ``coord`` plus the step.

    Notes:
        ``coord`` is returned unchanged if the peak is in the two outermost rows or columns, or if
        the Hessian is singular. The length of the step is not limited.

    Raises:
        TypeError: an argument does not hold real numbers.
        ValueError: ``heatmap`` is not ``[H, W]``, or ``coord`` is not ``[2]``.

    Example:
        >>> import numpy as np
        >>> import dark_jax
        >>> y, x = np.mgrid[:9, :9]
        >>> heatmap = -((x - 4.25) ** 2 + (y - 3.75) ** 2)
        >>> dark_jax.taylor(heatmap, np.array([4, 4])).tolist()
        [4.25, 3.75]

    References:
        ``taylor`` of DarkPose (Zhang et al., CVPR 2020, arXiv:1910.06278).
    """
    return _taylor(
        _maps("heatmap", heatmap, layout="[H, W]"),
        checks.coordinates("coord", coord, layout="[2]"),
    )


@functools.partial(jax.jit, static_argnames="settings")
def _get_final_preds(heatmaps: jax.Array, *, settings: DarkSettings) -> tuple[jax.Array, jax.Array]:
    keypoints = decode_along(heatmaps, settings=settings, axes=(2, 3))
    return keypoints.coords, keypoints.scores[..., None]


def get_final_preds(heatmaps: ArrayLike, kernel: int = 3) -> tuple[jax.Array, jax.Array]:
    """Find the sub-pixel keypoints of a batch of heatmaps, exactly as DarkPose does.

    The steps are: the peak of the raw map; blur and rescale (:func:`gaussian_blur`); the
    logarithm of values of at least 1e-10; one Newton step (:func:`taylor`). Use :func:`decode`
    for a checked step and a status.

    Args:
        heatmaps: ``[B, J, H, W]`` real numbers.
        kernel: odd size of the blur in pixels, at least 1; static.

    Returns:
        ``coords [B, J, 2]``, ``(x, y)`` in heatmap pixels, and ``maxvals [B, J, 1]``, the raw
        maximum of each map. Both are float32 (float64 for float64 maps with x64).

    Notes:
        The coordinates are (0, 0) if the maximum is not above zero. As in the original, they are
        NaN if the maximum is infinite and not at a border.

        The result is that of ``decode(rule=rules.DARKPOSE)``. Images with values so low that the
        limit of 1e-10 matters take longer. That choice depends on the data; see
        ``help(dark_jax)``.

    Raises:
        TypeError: ``heatmaps`` does not hold real numbers, or ``kernel`` is not an integer.
        ValueError: ``heatmaps`` is not ``[B, J, H, W]``, H or W is 0, or ``kernel`` is even or
            below 1.

    Example:
        >>> import dark_jax
        >>> heatmaps = dark_jax.encode([[[20.25, 30.5]]], size=(64, 48))
        >>> coords, maxvals = dark_jax.get_final_preds(heatmaps, 11)
        >>> coords.round(2).tolist()
        [[[20.25, 30.5]]]

    References:
        ``get_final_preds`` of DarkPose (Zhang et al., CVPR 2020, arXiv:1910.06278).
    """
    heatmaps = _maps("heatmaps", heatmaps, layout="[B, J, H, W]")
    size = checks.odd_kernel("kernel", kernel)
    settings = DarkSettings(rules.DARKPOSE, dim=2, kernel_size=size, blur_sigma=None)
    return _get_final_preds(heatmaps, settings=settings)
