"""Object keypoint similarity, as COCO defines it."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from dark_jax._core import checks
from dark_jax.metrics._compare import LEAST, checked, compare, mean

# Beyond this many widths exp(-x^2) is zero even in float64.
_ZERO_BEYOND_WIDTHS = 28.0
# COCO adds this to an area, so that it is never zero.
_EPS64 = float(np.finfo(np.float64).eps)


@jax.jit
def _oks(
    coords: jax.Array, truth: jax.Array, visible: jax.Array, area: jax.Array, sigmas: jax.Array
) -> jax.Array:
    offset, counted = compare(coords, truth, visible)
    dtype, joints = offset.dtype, offset.shape[:-1]
    area = jnp.broadcast_to(area.astype(dtype), joints[:-1])[..., None]
    sigmas = jnp.broadcast_to(sigmas.astype(dtype), joints)
    width = 2 * sigmas * jnp.sqrt(2 * (jnp.maximum(area, 0) + _EPS64))
    width = jnp.maximum(width, LEAST)[..., None]
    near = jnp.all(jnp.abs(offset) <= _ZERO_BEYOND_WIDTHS * width, axis=-1)
    ratio = jnp.where(near[..., None], offset, 0) / width
    similarity = jnp.where(near, jnp.exp(-jnp.sum(ratio * ratio, axis=-1)), 0)
    found = mean(similarity, counted, (similarity.ndim - 1,))
    return jnp.where(jnp.isnan(area[..., 0]), jnp.nan, found)


def oks(
    coords: ArrayLike,
    truth: ArrayLike,
    *,
    area: ArrayLike,
    sigmas: ArrayLike | tuple[float, ...],
    visible: ArrayLike | None = None,
) -> jax.Array:
    """Compute the object keypoint similarity of COCO, from 0 to 1.

    It is the mean over the visible joints of ``exp(-d^2 / (2 area (2 sigma)^2))``.
    ``oks(coords[:, None], truth, ...)`` compares ``I`` predicted with ``K`` true poses and
    returns ``[I, K]``.

    Args:
        coords: predictions, ``[..., J, dim]`` real numbers, ``dim`` from 1 to 3, in any pixels.
        truth: ``[..., J, dim]`` real numbers in the same pixels; leading axes broadcast.
        area: area of each person in pixels squared, numbers that broadcast to ``[...]``. COCO
            uses the area of the segment, not of the box.
        sigmas: ``J`` positive numbers, or one number for all joints, such as
            ``skeletons.COCO.sigmas``.
        visible: numbers that broadcast to ``[..., J]``, such as COCO's flags. Joints whose value
            is not above zero do not count. The default counts all.

    Returns:
        ``[...]`` float32 (float64 if a coordinate is), equal to pycocotools to 1e-6.

    Notes:
        The result is 0 if no joint is visible. COCO measures from the box in this case, and
        ignores the person. A negative area counts as zero. If a traced area is NaN, so is the
        result.

        COCO defines the score for two dimensions. For one and three, the formula is the same,
        and ``area`` is the square of a length of your choice.

    Raises:
        TypeError: an array does not hold real numbers.
        ValueError: ``coords`` and ``truth`` are not ``[..., J, dim]`` that fit together;
            ``area``, ``sigmas`` or ``visible`` does not broadcast; ``area`` is not finite, or
            ``sigmas`` are not positive and finite.

    Example:
        >>> from dark_jax import metrics
        >>> truth = [[10.0, 10.0], [20.0, 20.0]]
        >>> metrics.oks(truth, truth, area=900.0, sigmas=0.05).tolist()
        1.0

    References:
        https://cocodataset.org/#keypoints-eval.
    """
    arrays, joints = checked(coords, truth, visible)
    return _oks(
        *arrays,
        checks.finite("area", area, joints[:-1]),
        checks.positive_array("sigmas", sigmas, joints[-1:]),
    )
