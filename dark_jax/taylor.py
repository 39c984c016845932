"""Derivatives of a log window, and the Newton step to its maximum."""

from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from dark_jax import checks
from dark_jax.floats import as_float, inverse_power_of_two
from dark_jax.peak import Peak
from dark_jax.window import REACH, STENCIL, read


class Derivatives(NamedTuple):
    """Gradient and Hessian of a log map at a peak; all scalars."""

    dx: jax.Array
    dy: jax.Array
    dxx: jax.Array
    dxy: jax.Array
    dyy: jax.Array

    @property
    def det(self) -> jax.Array:
        """Determinant of the Hessian, zero where its two products round to the same."""
        same, cross = self.dxx * self.dyy, self.dxy * self.dxy
        # A fused multiply-add would leave the rounding error of one of them instead.
        return jnp.where(same == cross, 0, same - cross)

    @property
    def numerator(self) -> tuple[jax.Array, jax.Array]:
        """(x, y) of the Newton step ``-H^-1 g``, times the determinant."""
        return self.dxy * self.dy - self.dyy * self.dx, self.dxy * self.dx - self.dxx * self.dy

    def step(self, valid: jax.Array) -> jax.Array:
        """``[2]`` (x, y), the Newton step; zero where not ``valid``."""
        # The denominator is safe before the choice, or its gradient would be NaN.
        return jnp.where(valid, jnp.stack(self.numerator) / jnp.where(valid, self.det, 1), 0)


def derivatives(log_values: jax.Array) -> Derivatives:
    """The reference's central differences of the log values of ``STENCIL``.

    Second differences have a stride of two pixels.
    """
    chex.assert_shape(log_values, (len(STENCIL),))
    centre, left, right, up, down, left2, right2, up2, down2, *diagonal = log_values
    return Derivatives(
        dx=(right - left) / 2,
        dy=(down - up) / 2,
        dxx=(right2 - 2 * centre + left2) / 4,
        dxy=(diagonal[3] - diagonal[1] - diagonal[2] + diagonal[0]) / 4,
        dyy=(down2 - 2 * centre + up2) / 4,
    )


def interior(x: jax.Array, y: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """True where the stencil of a peak at (x, y) lies inside a map of ``shape`` (H, W)."""
    height, width = shape
    return (x >= REACH) & (x < width - REACH) & (y >= REACH) & (y < height - REACH)


def refinable(peak: Peak, shape: tuple[int, ...]) -> jax.Array:
    """Whether the reference goes on from this peak."""
    return (peak.score > 0) & interior(peak.x, peak.y, shape)


def reference_step(log_values: jax.Array, inside: jax.Array) -> jax.Array:
    """The reference's unguarded step: skipped at a border and where the Hessian is singular."""
    d = derivatives(log_values)
    return d.step(inside & (d.det != 0))


@jax.jit
def _taylor(heatmap: jax.Array, coord: jax.Array) -> jax.Array:
    coord = as_float(coord)
    height, width = heatmap.shape
    # Truncation towards zero, clipped so that a far or NaN coordinate stays a valid index.
    x, y = (
        jnp.nan_to_num(jnp.clip(coord[i], -1, size)).astype(jnp.int32)
        for i, size in enumerate((width, height))
    )
    log_values = read(heatmap, Peak(x, y, coord[0]), STENCIL)
    # Any scale gives the same step, but not every one a determinant that can be held.
    log_values *= inverse_power_of_two(jnp.max(jnp.abs(log_values)))
    step = reference_step(log_values, interior(x, y, heatmap.shape))
    dtype = np.promote_types(coord.dtype, step.dtype)
    return coord.astype(dtype) + step.astype(dtype)


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
