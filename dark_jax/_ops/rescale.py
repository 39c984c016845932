"""The blur of a whole map, and what brings the blurred map back to the old values."""

import enum
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from dark_jax._core.numerics import as_float, inverse_power_of_two
from dark_jax._ops.gaussian import blur
from dark_jax._ops.peak import maximum
from dark_jax._ops.pixels import Padding


class Rescale(enum.Enum):
    """How a blurred map is rescaled.

    Attributes:
        NO: it is not rescaled.
        TO_OLD_MAXIMUM: its maximum becomes the maximum before the blur.
        TO_OLD_MAXIMUM_IF_POSITIVE: the same, but only if the blurred maximum is above zero.
        TO_OLD_RANGE: its minimum becomes zero, and its maximum the maximum before the blur.

    Notes:
        A factor adds a constant to the logarithm, which does not change the step. It matters
        only for values at ``floor`` or ``ceiling``. For such values the whole map is blurred,
        because its maximum is needed. ``TO_OLD_RANGE`` always needs the whole map.

    Example:
        >>> from dark_jax import rules
        >>> [rule.name for rule in rules.PUBLISHED if rule.rescale is rules.Rescale.TO_OLD_RANGE]
        ['UDP_POSE']

    References:
        ``TO_OLD_MAXIMUM`` is that of DarkPose's ``gaussian_blur``, ``TO_OLD_MAXIMUM_IF_POSITIVE``
        that of ``SAPIENS2``, and ``TO_OLD_RANGE`` that of ``UDP_POSE``.
    """

    NO = "no"
    TO_OLD_MAXIMUM = "to the old maximum"
    TO_OLD_MAXIMUM_IF_POSITIVE = "to the old maximum, if the new one is positive"
    TO_OLD_RANGE = "to zero and the old maximum"


def blur_and_rescale(
    heatmap: jax.Array,
    kernels: Sequence[np.ndarray],
    *,
    padding: Padding = Padding.ZEROS,
    rescale: Rescale = Rescale.TO_OLD_MAXIMUM,
) -> tuple[jax.Array, jax.Array]:
    """One map, blurred and rescaled; and whether it is upright, so that no sign was flipped."""
    heatmap = as_float(heatmap)
    blurred = blur(heatmap, kernels, padding)
    if rescale is Rescale.NO:
        return blurred, jnp.bool_(True)
    if rescale is Rescale.TO_OLD_RANGE:
        blurred = blurred + maximum(-blurred)
    old, peak = maximum(heatmap), maximum(blurred)
    # Where the reference would divide by zero, the blurred map stays unscaled. With
    # TO_OLD_MAXIMUM, the signs of a map that is nowhere above zero may flip, as in the reference.
    unscaled = peak == 0 if rescale is Rescale.TO_OLD_MAXIMUM else peak <= 0
    # The divisor is brought near one, because the derivative of a quotient squares it.
    unit = inverse_power_of_two(jnp.abs(peak))
    scaled = blurred * unit / jnp.where(unscaled, 1, peak * unit) * old
    return jnp.where(unscaled, blurred, scaled), unscaled | (peak > 0) | ~(old > 0)
