"""The blurred neighbourhood of a peak, from the pixels around it."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

# The factors of a separable kernel, one per axis, (x, y, ...).
Kernels = tuple[np.ndarray, ...]


def blurred(around: jax.Array, kernels: Kernels, offsets: np.ndarray) -> jax.Array:
    """The blurred values at ``offsets``, from the box of pixels ``around`` the peak.

    Only these values are used, so only they are computed. This takes two products with constant
    matrices: along x, then along the other axes. Zeros in the matrices make every value NaN or
    infinite if any pixel is. A single product would have three times the rounding error, because
    it would be one long sum.
    """
    reach = int(np.abs(offsets).max())
    along = [_shifted(kernel, reach) for kernel in kernels]
    rows = around.reshape(-1, len(along[0]))
    # Zeros fill the columns up to whole vectors, so that this takes only two thirds of the time.
    columns = np.pad(along[0], ((0, 0), (0, -along[0].shape[1] % 8)))
    across = np.zeros((len(rows), columns.shape[1], len(offsets)))
    for point, (column, *others) in enumerate(offsets + reach):
        taps = [matrix[:, other] for matrix, other in zip(along[1:], others, strict=True)]
        across[:, column, point] = functools.reduce(
            np.multiply.outer, reversed(taps), np.ones(())
        ).reshape(-1)

    # Logarithms of these values are taken, where the TF32 or bfloat16 of a matrix unit would leave
    # only noise.
    def times(values: jax.Array, matrix: np.ndarray) -> jax.Array:
        constant = jnp.asarray(matrix, values.dtype)
        return jnp.matmul(values, constant, precision=lax.Precision.HIGHEST)

    return times(times(rows, columns).reshape(-1), across.reshape(-1, len(offsets)))


def kernel_variances(kernels: Kernels) -> np.ndarray:
    """``[dim]``, (x, y, ...), the variance in pixels squared that a blur adds to a blob."""
    places = [np.arange(len(kernel)) - len(kernel) // 2 for kernel in kernels]
    return np.array([kernel @ place**2 for kernel, place in zip(kernels, places, strict=True)])


def gram(kernels: Kernels, offsets: np.ndarray) -> np.ndarray:
    """``[n, n]``, the covariance of the :func:`blurred` values if pixels have variance one."""
    reach = int(np.abs(offsets).max())
    product = np.ones((len(offsets),) * 2)
    for kernel, offset in zip(kernels, offsets.T, strict=True):
        shifted = _shifted(kernel, reach)[:, offset + reach]
        product *= shifted.T @ shifted
    return product


def _shifted(kernel: np.ndarray, reach: int) -> np.ndarray:
    """``[n, 2 reach + 1]``, the kernel at every offset up to ``reach``."""
    taps = np.zeros((len(kernel) + 2 * reach, 2 * reach + 1))
    for column in range(2 * reach + 1):
        taps[column : column + len(kernel), column] = kernel
    return taps
