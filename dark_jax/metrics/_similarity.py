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
    """Object keypoint similarity: how near a pose is, as COCO has it, 0 to 1.

    The mean over the visible joints of ``exp(-d^2 / (2 area (2 sigma)^2))``. All pairs of ``I``
    predicted and ``K`` true poses: ``oks(coords[:, None], truth, ...)`` is ``[I, K]``.

    Args:
        coords: predictions, ``[..., J, dim]`` real, ``dim`` from 1 to 3, in pixels of your choice.
        truth: ``[..., J, dim]`` real, in the same pixels; leading axes broadcast.
        area: of each person in pixels squared, numbers that broadcast to ``[...]``; COCO
            takes that of the segment, not of the box. Below zero it is zero; where a traced one
            is NaN, so is the result.
        sigmas: of each joint, ``J`` positive numbers (or one for all), such as
            ``skeletons.COCO.sigmas``.
        visible: numbers that broadcast to ``[..., J]``, such as COCO's flags; a joint
            counts where they are above zero, as all do if not given.

    Returns:
        ``[...]`` float32 (float64 where a coordinate is); 0 where no joint is visible: COCO then
        measures from the box, and ignores the person. As pycocotools to 1e-6.

    Raises:
        TypeError: an array does not hold real numbers.
        ValueError: ``coords`` and ``truth`` are not ``[..., J, dim]`` that fit together;
            ``area``, ``sigmas`` or ``visible`` does not broadcast; ``area`` is NaN or infinite,
            or ``sigmas`` are not positive and finite, when not traced.

    Notes:
        COCO defines it for the plane. In volumes and along a line the formula is the same, and
        ``area`` is the square of whatever length you measure an instance by.

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
