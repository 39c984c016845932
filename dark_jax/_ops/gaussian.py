"""Gaussian kernels and the blur of whole maps."""

import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from dark_jax._core.numerics import as_float, inverse_power_of_two
from dark_jax._ops.peak import maximum

# OpenCV's fixed tables for small kernels. OpenCV 5 has one for 9 too; we keep
# to OpenCV 4 there, the generation the published checkpoints were tuned with.
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
    """The same without OpenCV's tables: its formula at every size."""
    return gaussian_kernel(kernel_sigma(size), radius=size // 2)


def gaussian_kernel(sigma: float, *, radius: int | None = None) -> np.ndarray:
    """Samples of a Gaussian of ``sigma`` pixels, normalised; radius ceil(3 sigma) if not given."""
    radius = math.ceil(3 * sigma) if radius is None else radius
    x = np.arange(-radius, radius + 1)
    weights = np.exp(-0.5 * (x / sigma) ** 2)
    return weights / weights.sum()


def blur(heatmap: jax.Array, kernels: Sequence[np.ndarray]) -> jax.Array:
    """Convolve one map ``[..., H, W]`` with a kernel an axis, (x, y, ...), zeros outside."""
    for axis, kernel in enumerate(reversed(kernels)):
        heatmap = _convolve(heatmap, kernel, axis=axis)
    return heatmap


def _convolve(x: jax.Array, kernel: np.ndarray, *, axis: int) -> jax.Array:
    # Shifted sums: no product touches a pixel outside the kernel (0 * -inf is NaN),
    # none is left to a matrix unit's rounding, and on the CPU they are 20 times
    # faster than a depthwise convolution.
    radius = len(kernel) // 2
    size = x.shape[axis]
    padding = [(0, 0)] * x.ndim
    padding[axis] = (radius, radius)
    padded = jax.lax.optimization_barrier(jnp.pad(x, padding))
    total = jnp.zeros_like(x)
    for tap, weight in enumerate(kernel):
        total += float(weight) * jax.lax.slice_in_dim(padded, tap, tap + size, axis=axis)
    return total


def blur_to_old_maximum(
    heatmap: jax.Array, kernels: Sequence[np.ndarray], *, keep_negative: bool = False
) -> jax.Array:
    """Blur one map and rescale it so that its maximum is what it was.

    With ``keep_negative`` a blurred map that is nowhere above zero stays as it is; without,
    its signs may flip, as in the reference.
    """
    heatmap = as_float(heatmap)
    blurred = blur(heatmap, kernels)
    peak = maximum(blurred)
    # Where the reference would divide by zero, the blurred map stays unscaled.
    unscaled = peak <= 0 if keep_negative else peak == 0
    # Divided near one: the derivative of a quotient squares what it divides by.
    unit = inverse_power_of_two(jnp.abs(peak))
    scaled = blurred * unit / jnp.where(unscaled, 1, peak * unit) * maximum(heatmap)
    return jnp.where(unscaled, blurred, scaled)
