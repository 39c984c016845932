"""The scores of the field: OKS, PCK, PCKh, AUC, EPE, NME.

Every function compares ``coords`` with ``truth``, both ``[..., J, 2]`` in the same pixels, and
returns a mean over joints; all but :func:`oks` take the ``axis`` to average over. Three rules are
common to all:

- A joint counts where ``visible`` is above zero and its truth is finite. Whatever else stands
  there, NaN too, has no part in the result nor in the gradient.
- A mean over no joint is 0, and so is its gradient: in a mean weighted with
  ``(visible > 0).sum(axis)`` it falls away. Only the weight tells it from a true 0.
- A predicted NaN is wrong for PCK and AUC, no likeness at all for OKS, NaN for EPE and NME.

mmpose reports the mean over joints of each joint's mean over instances: average ``axis=0``, then
over the joints that are seen. ``axis=None`` pools: each visible joint of the set counts alike.

- ``COCO_SIGMAS``: how far annotators spread at each of COCO's 17 joints, in roots of the person's
  area
- ``MPII_SCORED``: which of MPII's 16 joints its PCKh counts: all but the pelvis and the thorax
- ``MPII_HEAD``: MPII's head size, in diagonals of the head's box
"""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from dark_jax._core import checks
from dark_jax._core.numerics import as_float
from dark_jax.metrics._compare import LEAST, checked, compare, distance, mean, measured

__all__ = ["COCO_SIGMAS", "MPII_HEAD", "MPII_SCORED", "auc", "epe", "nme", "oks", "pck", "pckh"]

COCO_SIGMAS = (
    *(0.026, 0.025, 0.025, 0.035, 0.035),  # nose, eyes, ears
    *(0.079, 0.079, 0.072, 0.072, 0.062, 0.062),  # shoulders, elbows, wrists
    *(0.107, 0.107, 0.087, 0.087, 0.089, 0.089),  # hips, knees, ankles
)
MPII_SCORED = (True,) * 6 + (False, False) + (True,) * 8
MPII_HEAD = 0.6

# Beyond this many widths exp(-x^2) is zero even in float64.
_FAR = 28.0
# What COCO adds to an area, lest it be zero.
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
    near = jnp.all(jnp.abs(offset) <= _FAR * width, axis=-1)
    ratio = jnp.where(near[..., None], offset, 0) / width
    similarity = jnp.where(near, jnp.exp(-jnp.sum(ratio * ratio, axis=-1)), 0)
    return mean(similarity, counted, (similarity.ndim - 1,))


@functools.partial(jax.jit, static_argnames=("axis",))
def _error(
    coords: jax.Array,
    truth: jax.Array,
    visible: jax.Array,
    normalize: jax.Array,
    *,
    axis: tuple[int, ...],
) -> jax.Array:
    return mean(*measured(compare(coords, truth, visible), normalize), axis)


@functools.partial(jax.jit, static_argnames=("within", "axis"))
def _correct(
    coords: jax.Array,
    truth: jax.Array,
    visible: jax.Array,
    normalize: jax.Array,
    thresholds: jax.Array,
    *,
    within: Callable[[Any, Any], Any],
    axis: tuple[int, ...],
) -> jax.Array:
    """The mean over ``thresholds [T]`` too: it may be taken joint by joint."""
    length, counted = measured(compare(coords, truth, visible), normalize)
    limits = jnp.expand_dims(thresholds.astype(length.dtype), range(length.ndim))
    correct = jnp.mean(within(length[..., None], limits), axis=-1, dtype=length.dtype)
    return mean(correct, counted, axis)


@jax.jit
def _head_size(boxes: jax.Array) -> jax.Array:
    boxes = as_float(boxes)
    return MPII_HEAD * distance(boxes[..., 2:] - boxes[..., :2])


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
        coords: predictions, ``[..., J, 2]`` real, ``(x, y)`` in pixels of your choice.
        truth: ``[..., J, 2]`` real, in the same pixels; leading axes broadcast.
        area: of each person in pixels squared, numbers that broadcast to ``[...]``; COCO
            takes that of the segment, not of the box. Below zero it is zero.
        sigmas: of each joint, ``J`` positive numbers (or one for all), such as
            :data:`COCO_SIGMAS`.
        visible: numbers that broadcast to ``[..., J]``, such as COCO's flags; a joint
            counts where they are above zero, as all do if not given.

    Returns:
        ``[...]`` float32 (float64 where a coordinate is); 0 where no joint is visible: COCO then
        measures from the box, and ignores the person. As pycocotools to 1e-6.

    Raises:
        TypeError: an array does not hold real numbers.
        ValueError: ``coords`` and ``truth`` are not ``[..., J, 2]`` that fit together;
            ``area``, ``sigmas`` or ``visible`` does not broadcast; sigmas known now are not
            positive and finite.

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
        checks.broadcastable("area", area, joints[:-1]),
        checks.positive_array("sigmas", sigmas, joints[-1:]),
    )


def pck(
    coords: ArrayLike,
    truth: ArrayLike,
    *,
    threshold: ArrayLike,
    normalize: ArrayLike = 1.0,
    visible: ArrayLike | None = None,
    axis: int | tuple[int, ...] | None = -1,
) -> jax.Array:
    """Percentage of correct keypoints, as a fraction: those nearer than a threshold.

    Nearer, not as near: a distance equal to the threshold is wrong, as in mmpose and HRNet.

    Args:
        coords: predictions, ``[..., J, 2]`` real, ``(x, y)`` in pixels of your choice.
        truth: ``[..., J, 2]`` real, in the same pixels; leading axes broadcast.
        threshold: a number, in units of ``normalize``.
        normalize: the length of a unit in pixels, numbers that broadcast to ``[...]``: the
            larger side of the box, say. Joints of an instance whose unit is zero, negative or not
            finite do not count. For a unit on each axis, divide both arrays by it before.
        visible: numbers or booleans that broadcast to ``[..., J]``; a joint counts where they are
            above zero, as all do if not given.
        axis: the axes of ``[..., J]`` to average over, None for all; static.

    Returns:
        ``[...]``, or what ``axis`` leaves of ``[..., J]``: 0 to 1, and 0 where nothing counts;
        float32 (float64 where a coordinate is).

    Raises:
        TypeError: an array does not hold real numbers; ``axis`` no integers.
        ValueError: ``coords`` and ``truth`` are not ``[..., J, 2]`` that fit together;
            ``threshold`` is no single number, or NaN; ``normalize`` or ``visible`` does not
            broadcast; ``axis`` is none of the joints'.

    Example:
        >>> from dark_jax import metrics
        >>> truth = [[10.0, 10.0], [20.0, 20.0]]
        >>> metrics.pck([[10.0, 13.0], [20.0, 25.0]], truth, threshold=4.0).tolist()
        0.5

    References:
        Yang and Ramanan, Articulated Human Detection with Flexible Mixtures of Parts, IEEE
        TPAMI 35 (2013).
    """
    arrays, joints = checked(coords, truth, visible)
    return _correct(
        *arrays,
        checks.broadcastable("normalize", normalize, joints[:-1]),
        checks.not_nan("threshold", threshold, ())[None],
        within=operator.lt,
        axis=checks.averaged_axes("axis", axis, len(joints)),
    )


def pckh(
    coords: ArrayLike,
    truth: ArrayLike,
    *,
    head_boxes: ArrayLike,
    threshold: ArrayLike,
    visible: ArrayLike | None = None,
    axis: int | tuple[int, ...] | None = -1,
) -> jax.Array:
    """PCK in head sizes, as MPII has it: PCKh@0.5 is ``threshold=0.5``.

    A head's size is .6 of the diagonal of its box. A distance equal to the threshold is right
    here, as in MPII's and HRNet's evaluation. Their total is ``visible=visible * MPII_SCORED``
    and ``axis=None``: pelvis and thorax do not count.

    Args:
        coords: predictions, ``[..., J, 2]`` real, ``(x, y)`` in pixels of your choice.
        truth: ``[..., J, 2]`` real, in the same pixels; leading axes broadcast.
        head_boxes: real, ``[..., 4]``, ``(x1, y1, x2, y2)`` in these pixels, of leading axes
            that broadcast; joints of an instance whose box has no diagonal do not count.
        threshold: a number, in head sizes.
        visible: numbers or booleans that broadcast to ``[..., J]``; a joint counts where they are
            above zero, as all do if not given.
        axis: the axes of ``[..., J]`` to average over, None for all; static.

    Returns:
        ``[...]``, or what ``axis`` leaves of ``[..., J]``: 0 to 1, and 0 where nothing counts;
        float32 (float64 where a coordinate is).

    Raises:
        TypeError: an array does not hold real numbers; ``axis`` no integers.
        ValueError: ``coords`` and ``truth`` are not ``[..., J, 2]`` that fit together;
            ``head_boxes`` is not ``[..., 4]``; it or ``visible`` does not broadcast;
            ``threshold`` is no single number, or NaN; ``axis`` is none of the joints'.

    Example:
        >>> from dark_jax import metrics
        >>> truth = [[10.0, 10.0], [20.0, 20.0]]
        >>> found = [[10.0, 13.0], [20.0, 40.0]]
        >>> metrics.pckh(found, truth, head_boxes=[0, 0, 6, 8], threshold=0.5).tolist()
        0.5

    References:
        Andriluka et al., 2D Human Pose Estimation: New Benchmark and State of the Art
        Analysis, CVPR 2014.
    """
    arrays, joints = checked(coords, truth, visible)
    boxes = checks.coordinates("head_boxes", head_boxes, layout="[..., 4]")
    return _correct(
        *arrays,
        _head_size(checks.broadcastable("head_boxes", boxes, (*joints[:-1], 4))),
        checks.not_nan("threshold", threshold, ())[None],
        within=operator.le,
        axis=checks.averaged_axes("axis", axis, len(joints)),
    )


def auc(
    coords: ArrayLike,
    truth: ArrayLike,
    *,
    thresholds: ArrayLike | tuple[float, ...],
    normalize: ArrayLike = 1.0,
    visible: ArrayLike | None = None,
    axis: int | tuple[int, ...] | None = -1,
) -> jax.Array:
    """Area under the curve of PCK over its threshold: the mean of :func:`pck` over many.

    Args:
        coords: predictions, ``[..., J, 2]`` real, ``(x, y)`` in pixels of your choice.
        truth: ``[..., J, 2]`` real, in the same pixels; leading axes broadcast.
        thresholds: ``[T]`` real, in units of ``normalize``. mmpose's are ``jnp.arange(20) / 20``,
            of 30 pixels.
        normalize: the length of a unit in pixels, numbers that broadcast to ``[...]``; as
            for :func:`pck`.
        visible: numbers or booleans that broadcast to ``[..., J]``; a joint counts where they are
            above zero, as all do if not given.
        axis: the axes of ``[..., J]`` to average over, None for all; static.

    Returns:
        ``[...]``, or what ``axis`` leaves of ``[..., J]``: 0 to 1, and 0 where nothing counts;
        float32 (float64 where a coordinate is).

    Raises:
        TypeError: an array does not hold real numbers; ``axis`` no integers.
        ValueError: ``coords`` and ``truth`` are not ``[..., J, 2]`` that fit together;
            ``thresholds`` are not at least one number in a row; ``normalize`` or ``visible``
            does not broadcast; ``axis`` is none of the joints'.

    Example:
        >>> from dark_jax import metrics
        >>> truth = [[10.0, 10.0], [20.0, 20.0]]
        >>> found = [[10.0, 13.0], [20.0, 25.0]]
        >>> metrics.auc(found, truth, thresholds=(2.0, 4.0, 6.0, 8.0)).tolist()
        0.625

    References:
        mmpose: keypoint_auc.
    """
    arrays, joints = checked(coords, truth, visible)
    return _correct(
        *arrays,
        checks.broadcastable("normalize", normalize, joints[:-1]),
        checks.numbers("thresholds", thresholds),
        within=operator.lt,
        axis=checks.averaged_axes("axis", axis, len(joints)),
    )


def epe(
    coords: ArrayLike,
    truth: ArrayLike,
    *,
    visible: ArrayLike | None = None,
    axis: int | tuple[int, ...] | None = -1,
) -> jax.Array:
    """End-point error: the mean distance in pixels.

    Args:
        coords: predictions, ``[..., J, 2]`` real, ``(x, y)`` in pixels of your choice.
        truth: ``[..., J, 2]`` real, in the same pixels; leading axes broadcast.
        visible: numbers or booleans that broadcast to ``[..., J]``; a joint counts where they are
            above zero, as all do if not given.
        axis: the axes of ``[..., J]`` to average over, None for all; static.

    Returns:
        ``[...]``, or what ``axis`` leaves of ``[..., J]``, in pixels; 0 where nothing counts.
        float32 (float64 where a coordinate is). The gradient at distance zero is zero.

    Raises:
        TypeError: an array does not hold real numbers; ``axis`` no integers.
        ValueError: ``coords`` and ``truth`` are not ``[..., J, 2]`` that fit together;
            ``visible`` does not broadcast; ``axis`` is none of the joints'.

    Example:
        >>> from dark_jax import metrics
        >>> metrics.epe([[3.0, 4.0], [20.0, 20.0]], [[0.0, 0.0], [20.0, 20.0]]).tolist()
        2.5

    References:
        mmpose: keypoint_epe.
    """
    return nme(coords, truth, normalize=1.0, visible=visible, axis=axis)


def nme(
    coords: ArrayLike,
    truth: ArrayLike,
    *,
    normalize: ArrayLike,
    visible: ArrayLike | None = None,
    axis: int | tuple[int, ...] | None = -1,
) -> jax.Array:
    """Normalised mean error: the mean distance in units of each instance, such as its face.

    Args:
        coords: predictions, ``[..., J, 2]`` real, ``(x, y)`` in pixels of your choice.
        truth: ``[..., J, 2]`` real, in the same pixels; leading axes broadcast.
        normalize: the length of a unit in pixels, numbers that broadcast to ``[...]``: the
            distance of the eyes, say. Joints of an instance whose unit is zero, negative or not
            finite do not count.
        visible: numbers or booleans that broadcast to ``[..., J]``; a joint counts where they are
            above zero, as all do if not given.
        axis: the axes of ``[..., J]`` to average over, None for all; static.

    Returns:
        ``[...]``, or what ``axis`` leaves of ``[..., J]``, in these units; 0 where nothing
        counts. float32 (float64 where a coordinate is). The gradient at distance zero is zero.

    Raises:
        TypeError: an array does not hold real numbers; ``axis`` no integers.
        ValueError: ``coords`` and ``truth`` are not ``[..., J, 2]`` that fit together;
            ``normalize`` or ``visible`` does not broadcast; ``axis`` is none of the joints'.

    Example:
        >>> from dark_jax import metrics
        >>> truth = [[0.0, 0.0], [20.0, 20.0]]
        >>> metrics.nme([[3.0, 4.0], [20.0, 20.0]], truth, normalize=10.0).tolist()
        0.25

    References:
        mmpose: keypoint_nme.
    """
    arrays, joints = checked(coords, truth, visible)
    return _error(
        *arrays,
        checks.broadcastable("normalize", normalize, joints[:-1]),
        axis=checks.averaged_axes("axis", axis, len(joints)),
    )
