"""The reference's Newton step on a log map."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from dark_jax._core import checks
from dark_jax._core.numerics import as_float, inverse_power_of_two, together
from dark_jax._ops.stencil import TAYLOR
from dark_jax._ops.window import read


@jax.jit
def _taylor(heatmap: jax.Array, coord: jax.Array) -> jax.Array:
    coord = as_float(coord)
    height, width = heatmap.shape
    # Truncation towards zero, clipped so that a far or NaN coordinate stays a valid index.
    x, y = (
        jnp.nan_to_num(jnp.clip(coord[i], -1, size)).astype(jnp.int32)
        for i, size in enumerate((width, height))
    )
    log_values = read(heatmap, (x, y), TAYLOR.offsets(2))
    # Any scale gives the same step, but not every one a determinant that can be held.
    log_values *= inverse_power_of_two(jnp.max(jnp.abs(log_values)))
    d = TAYLOR.derivatives(log_values, 2)
    step = d.step(TAYLOR.inside((x, y), heatmap.shape) & (d.det != 0))
    return jnp.add(*together(coord, step))


def taylor(heatmap: ArrayLike, coord: ArrayLike) -> jax.Array:
    """Move an integer peak to the maximum of the second-order expansion around it.

    Args:
        heatmap: ``[H, W]`` real, the log of a blurred heatmap.
        coord: ``[2]`` real, the peak ``(x, y)`` in heatmap pixels; truncated to
            integers to choose the pixel expanded around.

    Returns:
        ``[2]`` float32 (float64 if either argument is): ``coord`` plus the step; ``coord``
        unchanged where the peak is within two pixels of an edge or the Hessian is singular.
        The length of the step is not bounded.

    Raises:
        TypeError: an argument does not hold real numbers.
        ValueError: ``heatmap`` is not ``[H, W]``, or ``coord`` not ``[2]``.

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
        checks.maps("heatmap", heatmap, layout="[H, W]"),
        checks.coordinates("coord", coord, layout="[2]"),
    )
