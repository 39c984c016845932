"""The distance of keypoints from the truth: EPE, NME."""

from __future__ import annotations

import functools

import jax
from jax.typing import ArrayLike

from dark_jax._core import checks
from dark_jax.metrics._compare import averaged_axes, checked, compare, mean, measured


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


def epe(
    coords: ArrayLike,
    truth: ArrayLike,
    *,
    visible: ArrayLike | None = None,
    axis: int | tuple[int, ...] | None = -1,
) -> jax.Array:
    """End-point error: the mean distance in pixels.

    Args:
        coords: predictions, ``[..., J, dim]`` real, ``dim`` from 1 to 3, in pixels of your choice.
        truth: ``[..., J, dim]`` real, in the same pixels; leading axes broadcast.
        visible: numbers or booleans that broadcast to ``[..., J]``; a joint counts where they are
            above zero, as all do if not given.
        axis: the axes of ``[..., J]`` to average over, None for all; static.

    Returns:
        ``[...]``, or what ``axis`` leaves of ``[..., J]``, in pixels; 0 where nothing counts.
        float32 (float64 where a coordinate is). The gradient at distance zero is zero.

    Raises:
        TypeError: an array does not hold real numbers; ``axis`` no integers.
        ValueError: ``coords`` and ``truth`` are not ``[..., J, dim]`` that fit together;
            ``visible`` does not broadcast; ``axis`` is not an axis of ``[..., J]``.

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
        coords: predictions, ``[..., J, dim]`` real, ``dim`` from 1 to 3, in pixels of your choice.
        truth: ``[..., J, dim]`` real, in the same pixels; leading axes broadcast.
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
        ValueError: ``coords`` and ``truth`` are not ``[..., J, dim]`` that fit together;
            ``normalize`` or ``visible`` does not broadcast; ``axis`` is not an axis of
            ``[..., J]``.

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
        axis=averaged_axes("axis", axis, len(joints)),
    )
