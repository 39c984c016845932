"""Gaussian kernels and the blur of whole maps."""

import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from dark_jax._ops.pixels import Padding

# OpenCV's fixed tables for small kernels. OpenCV 5 has a table for 9 too. It is left out, because
# the published checkpoints were tuned with OpenCV 4.
_OPENCV_TABLES = {
    1: (1.0,),
    3: (0.25, 0.5, 0.25),
    5: (0.0625, 0.25, 0.375, 0.25, 0.0625),
    7: (0.03125, 0.109375, 0.21875, 0.28125, 0.21875, 0.109375, 0.03125),
}


def kernel_sigma(size: int) -> float:
    """Sigma in pixels that OpenCV's formula assigns to a kernel of ``size`` taps."""
    return 0.3 * ((size - 1) / 2 - 1) + 0.8


def opencv_kernel(size: int) -> np.ndarray:
    """The ``size`` float64 coefficients of OpenCV's ``GaussianBlur(..., sigma=0)``."""
    if size in _OPENCV_TABLES:
        return np.array(_OPENCV_TABLES[size])
    return formula_kernel(size)


def formula_kernel(size: int) -> np.ndarray:
    """The ``size`` float64 coefficients of OpenCV's formula, without its tables."""
    return gaussian_kernel(kernel_sigma(size), radius=size // 2)


def gaussian_kernel(sigma: float, *, radius: int | None = None) -> np.ndarray:
    """Normalised samples of a Gaussian of ``sigma`` pixels; the default radius is ceil(3 sigma)."""
    radius = math.ceil(3 * sigma) if radius is None else radius
    x = np.arange(-radius, radius + 1)
    weights = np.exp(-0.5 * (x / sigma) ** 2)
    return weights / weights.sum()


def blur(
    heatmap: jax.Array, kernels: Sequence[np.ndarray], padding: Padding = Padding.ZEROS
) -> jax.Array:
    """Convolve one map ``[..., H, W]`` with one kernel per axis, (x, y, ...)."""
    for axis, kernel in enumerate(reversed(kernels)):
        heatmap = _convolve(heatmap, kernel, padding, axis=axis)
    return heatmap


def _convolve(x: jax.Array, kernel: np.ndarray, padding: Padding, *, axis: int) -> jax.Array:
    # Shifted maps are added. So no product involves a pixel outside the kernel (0 * -inf is NaN),
    # and no product is rounded by a matrix unit. On the CPU this is 20 times faster than a
    # depthwise convolution.
    radius = len(kernel) // 2
    size = x.shape[axis]
    widths = [(0, 0)] * x.ndim
    widths[axis] = (radius, radius)
    mode = "constant" if padding is Padding.ZEROS else padding.value
    padded = jax.lax.optimization_barrier(jnp.pad(x, widths, mode))
    total = jnp.zeros_like(x)
    for tap, weight in enumerate(kernel):
        total += float(weight) * jax.lax.slice_in_dim(padded, tap, tap + size, axis=axis)
    return total
