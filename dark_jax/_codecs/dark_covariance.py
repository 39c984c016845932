"""How far noise moves a Newton step, estimated from the residuals of the pixels around a peak."""

import itertools
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from dark_jax._ops.pixels import Position, box, read
from dark_jax._ops.quadratic import Quadratic
from dark_jax._ops.window import Kernels, gram, kernel_variances

# The noise is measured in this many pixels to each side, by the number of axes. They are enough to
# leave residuals when the blob is taken out, and few enough to leave the neighbours out.
RADIUS = {1: 8, 2: 3, 3: 2}
# Pixels cannot resolve a blob whose sigma, in pixels, is smaller than this.
NARROWEST_BLOB = 0.5


def propagated(
    step: Callable[[jax.Array], jax.Array],
    values: jax.Array,
    kernels: Kernels,
    offsets: np.ndarray,
) -> jax.Array:
    """``[dim, dim]``, the covariance of ``step(values)`` for pixels of variance one.

    ``values`` are those at ``offsets`` after the blur by ``kernels``, so they share pixels.
    """
    slopes = jax.jacrev(step)(values)
    shared = jnp.asarray(gram(kernels, offsets), values.dtype)
    return jnp.einsum("in,nm,jm->ij", slopes, shared, slopes, precision=jax.lax.Precision.HIGHEST)


def without_blur(
    model: Quadratic, kernels: Kernels, valid: jax.Array
) -> tuple[Quadratic, jax.Array]:
    """The log Hessian of the blob before its blur, and whether it is known.

    The variance of the blur is subtracted from that of the blurred blob. The Hessian is not known
    if the blob is so narrow that pixels cannot resolve it.
    """
    wide = model.negative_inverse(valid)

    def negative(matrix: jax.Array) -> Quadratic:
        return model._replace(hessian=tuple(tuple(-row) for row in matrix))

    narrow = wide - jnp.asarray(np.diag(kernel_variances(kernels)), wide.dtype)
    least = jnp.asarray(NARROWEST_BLOB**2 * np.eye(len(kernels)), wide.dtype)
    known = valid & negative(narrow - least).concave
    return negative(negative(narrow).negative_inverse(known)), known


def pixel_variance(values: jax.Array, places: Sequence[jax.Array], blob: Quadratic) -> jax.Array:
    """The variance of a pixel, if everything that blobs of about this shape leave over is noise.

    ``values [n]`` are those at ``places``, (x, y, ...), ``[n]`` each, counted from the top of the
    blob. A Gaussian times any polynomial of second degree is projected out. So errors in the
    height, place and shape of the blob do not matter to first order.
    """
    dim = len(places)
    u = [jnp.ones_like(values), *places]
    pairs = itertools.combinations_with_replacement(range(dim + 1), 2)
    exponent = sum(
        blob.hessian[i][j] * places[i] * places[j]
        for i, j in itertools.product(range(dim), repeat=2)
    )
    bump = jnp.exp(jnp.minimum(0.5 * exponent, 0))
    done: list[jax.Array] = []
    # The Gram-Schmidt process needs only sums over pixels, and not a solver.
    for function in [bump * u[i] * u[j] for i, j in pairs]:
        for other in done:
            function -= jnp.sum(other * function) * other
        square = jnp.sum(function * function)
        done.append(function * jax.lax.rsqrt(jnp.where(square > 0, square, 1)))
        values -= jnp.sum(done[-1] * values) * done[-1]
    return jnp.sum(values * values) / (len(values) - len(done) - 2)


def read_noisy_pixels(heatmap: jax.Array, position: Position) -> tuple[jax.Array, np.ndarray]:
    """The pixels in which the noise is measured, ``[n]``, and their offsets, ``[n, dim]``."""
    offsets = box((RADIUS[heatmap.ndim],) * heatmap.ndim)
    return read(heatmap, position, offsets), offsets
