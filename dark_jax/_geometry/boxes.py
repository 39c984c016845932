"""Make affine maps that push heatmap pixels, from boxes and conventions."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import NamedTuple, ParamSpec, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from dark_jax._core import checks
from dark_jax._core.numerics import as_float
from dark_jax.conventions import CONVENTIONS, Convention

_P = ParamSpec("_P")
_T = TypeVar("_T")


def takes_convention(function: Callable[_P, _T]) -> Callable[_P, _T]:
    """Wrap ``function`` so that an error lists the conventions if the caller names none."""

    @functools.wraps(function)
    def checked(*args: _P.args, **kwargs: _P.kwargs) -> _T:
        if not isinstance(kwargs.get("convention"), Convention):
            names = ", ".join(str(convention) for convention in CONVENTIONS)
            got = repr(kwargs["convention"]) if "convention" in kwargs else "none"
            raise TypeError(
                f"convention must be given, there is no default: one of {names}, got {got}"
            )
        return function(*args, **kwargs)

    return checked


def divisible_size(name: str, value: tuple[int, int], convention: Convention) -> tuple[int, int]:
    """Return ``value`` as a size that stays positive when ``map_less`` is subtracted."""
    height, width = checks.map_size(name, value, 2)
    if min(height, width) <= convention.map_less:
        raise ValueError(
            f"{name} must be at least {convention.map_less + 1} on each side with {convention}, "
            f"got {(height, width)}"
        )
    return height, width


def both_sizes(
    map_size: tuple[int, int], input_size: tuple[int, int], convention: Convention
) -> tuple[tuple[int, int], tuple[int, int]]:
    """Return the sizes of a map and its input, whose aspects must agree up to rounding."""
    map_size = divisible_size("map_size", map_size, convention)
    input_size = divisible_size("input_size", input_size, convention)
    sides = [*zip(input_size, map_size, strict=True)]
    least = max(whole / (part + 1) for whole, part in sides)
    if any(part > 1 and least >= whole / (part - 1) for whole, part in sides):
        raise ValueError(
            "input_size must have the aspect of map_size, both (H, W), "
            f"got input_size={input_size}, map_size={map_size}: is one of them (W, H)?"
        )
    return map_size, input_size


def _per_axis(size: tuple[int, int], less: float) -> np.ndarray:
    """Return ``(W, H)``, with ``less`` subtracted from both."""
    return np.array(size[::-1], float) - less


class _Law(NamedTuple):
    """A convention for one map size, as numbers: one compiled program serves all conventions."""

    aspect: np.ndarray
    counts: np.ndarray
    pixel: np.ndarray
    box_middle: np.ndarray
    box_less: np.ndarray
    turn: np.ndarray


def _law(size: tuple[int, int], convention: Convention) -> _Law:
    return _Law(
        aspect=np.array(size[1] / size[0]),
        counts=_per_axis(size, convention.map_less),
        pixel=_per_axis(size, 0) / 2 - convention.map_middle,
        box_middle=np.array(convention.box_middle),
        box_less=np.array(convention.box_less),
        turn=np.array(convention.turn),
    )


@functools.partial(jax.jit, static_argnames=("keep_aspect", "one_scale"))
def _box_to_affine(
    boxes: jax.Array,
    padding: jax.Array,
    rotation: jax.Array,
    law: _Law,
    *,
    keep_aspect: bool,
    one_scale: bool,
) -> jax.Array:
    boxes = as_float(boxes)
    dtype, lead = boxes.dtype, boxes.shape[:-1]
    padding, rotation = (jnp.broadcast_to(p.astype(dtype), lead) for p in (padding, rotation))
    aspect, counts, pixel, box_middle, box_less, turn = (n.astype(dtype) for n in law)
    counts, pixel = (jnp.broadcast_to(n, (*lead, 2)) for n in (counts, pixel))
    sides = boxes[..., 2:]
    middle = boxes[..., :2] + 0.5 * sides - box_middle
    if keep_aspect:
        across = jnp.maximum(sides[..., 0], sides[..., 1] * aspect)
        sides = jnp.stack([across, across / aspect], axis=-1)
    scale = (sides * padding[..., None] - box_less) / counts
    if one_scale:
        scale = jnp.broadcast_to(scale[..., :1], scale.shape)
    angle = turn * jnp.deg2rad(rotation)
    cos, sin = jnp.cos(angle), jnp.sin(angle)
    rows = jnp.stack([cos, -sin], axis=-1), jnp.stack([sin, cos], axis=-1)
    linear = jnp.stack(rows, axis=-2) * scale[..., None, :]
    offset = middle - jnp.sum(linear * pixel[..., None, :], axis=-1)
    return jnp.concatenate([linear, offset[..., None]], axis=-1)


def _boxes(name: str, value: ArrayLike) -> jax.Array | np.ndarray:
    """Return ``value`` as boxes ``[..., 4]``, finite and not empty when not traced."""
    array = checks.coordinates(name, value, layout="[..., 4]")

    def good(known: np.ndarray) -> np.ndarray:
        return np.asarray(np.isfinite(known).all(-1) & (known[..., 2:] > 0).all(-1))

    checks.require(name, array, good, "finite (x, y, w, h) with positive w and h")
    return array


@takes_convention
def box_to_affine(
    boxes: ArrayLike,
    *,
    map_size: tuple[int, int],
    convention: Convention,
    padding: ArrayLike = 1.25,
    rotation: ArrayLike = 0.0,
    keep_aspect: bool = True,
) -> jax.Array:
    """Make the affine maps from heatmap pixels to image pixels, one for each box.

    The box is padded around its centre, widened or made taller to the aspect of the map, and
    turned around its centre. :func:`to_image` applies the result, and :func:`invert_affine` gives
    the map from image pixels to heatmap pixels.

    Args:
        boxes: ``[..., 4]`` real numbers, ``(x, y, w, h)`` in image pixels, as in COCO. The box of
            a whole image is ``(0, 0, W, H)``. Under ``UDP``, which counts between pixel centres,
            it is ``(0, 0, W - 1, H - 1)``.
        map_size: ``(H, W)`` of the heatmaps; static. The network's input must have the same
            aspect.
        convention: a :class:`dark_jax.conventions.Convention`; static. There is no default.
        padding: factor for the sides of the box: a number, or an array that broadcasts to
            ``boxes.shape[:-1]``; may be traced.
        rotation: angle in degrees, like ``padding``; may be traced. The box turns from the x axis
            towards y, which looks clockwise. Under ``UDP`` it turns the other way, as in the
            original code.
        keep_aspect: False stretches the map over the box, as a plain resize does; static.

    Returns:
        ``[..., 2, 3]`` float32 (float64 for float64 boxes with x64).

    Notes:
        The values of traced boxes are not checked: a box without sides gives a singular map, and
        NaN gives NaN.

    Raises:
        TypeError: ``convention`` is missing; an array does not hold real numbers; ``map_size``
            does not hold integers; ``keep_aspect`` is not a bool.
        ValueError: ``boxes`` is not ``[..., 4]``, is not finite, or has no positive width and
            height; ``map_size`` is not ``(H, W)``, each at least 1 (2 for ``DARKPOSE`` and
            ``UDP``); ``padding`` is not positive and finite, or ``rotation`` is not finite;
            either does not broadcast to ``boxes.shape[:-1]``; ``keep_aspect`` is False with a
            convention that has one scale for both axes.

    Example:
        >>> import dark_jax
        >>> whole = [0, 0, 192, 256]
        >>> for convention in (dark_jax.conventions.MMPOSE, dark_jax.conventions.HALF_PIXEL):
        ...     affine = dark_jax.box_to_affine(
        ...         whole, map_size=(64, 48), convention=convention, padding=1.0
        ...     )
        ...     dark_jax.apply_affine([10.0, 20.0], affine).tolist()
        [40.0, 80.0]
        [41.5, 81.5]

    References:
        :mod:`dark_jax.conventions` names the source of each convention. Huang et al., The Devil
        is in the Details: Delving into Unbiased Data Processing, CVPR 2020, arXiv:1911.07524.
    """
    boxes = _boxes("boxes", boxes)
    lead = tuple(boxes.shape[:-1])
    keep_aspect = checks.flag("keep_aspect", keep_aspect)
    if convention.one_scale and not keep_aspect:
        raise ValueError(
            f"keep_aspect must be True with {convention}, which has one scale for both axes"
        )
    return _box_to_affine(
        boxes,
        checks.positive_array("padding", padding, lead),
        checks.finite("rotation", rotation, lead),
        _law(divisible_size("map_size", map_size, convention), convention),
        keep_aspect=keep_aspect,
        one_scale=convention.one_scale,
    )


def map_to_input_matrix(
    map_size: tuple[int, int], input_size: tuple[int, int], convention: Convention
) -> np.ndarray:
    """Return the affine map ``[2, 3]``; the box cancels, because map and input both cover it."""
    less = convention.map_less
    scale = _per_axis(input_size, less) / _per_axis(map_size, less)
    if convention.one_scale:
        scale[:] = scale[0]
    pixel = _per_axis(map_size, 0) / 2 - convention.map_middle
    same = _per_axis(input_size, 0) / 2 - convention.input_middle
    return np.concatenate([np.diag(scale), (same - scale * pixel)[:, None]], axis=1)


@takes_convention
def map_to_input(
    *, map_size: tuple[int, int], input_size: tuple[int, int], convention: Convention
) -> jax.Array:
    """Make the affine map from heatmap pixels to pixels of the network's input.

    Use its inverse (:func:`invert_affine`) to draw training targets from keypoints in the input.
    It also shows what a convention does.

    Args:
        map_size: ``(H, W)`` of the heatmaps; static.
        input_size: ``(H, W)`` of the network's input; static. Its aspect must be that of
            ``map_size``, up to rounding.
        convention: a :class:`dark_jax.conventions.Convention`; static. There is no default.

    Returns:
        ``[2, 3]`` float32 (float64 with x64).

    Raises:
        TypeError: ``convention`` is missing; the sizes do not hold integers.
        ValueError: a size is not ``(H, W)``, each at least 1 (2 for ``DARKPOSE`` and ``UDP``);
            the sizes differ in aspect.

    Example:
        >>> import dark_jax
        >>> sizes = {"map_size": (64, 48), "input_size": (256, 192)}
        >>> for convention in dark_jax.conventions.CONVENTIONS:
        ...     affine = dark_jax.map_to_input(**sizes, convention=convention)
        ...     x, _ = dark_jax.apply_affine([10.0, 10.0], affine)
        ...     print(f"{convention.name:10} {x:.2f}")
        DARKPOSE   40.64
        HRNET      40.00
        MMPOSE     40.00
        UDP        40.64
        HALF_PIXEL 41.50
        DEEPLABCUT 42.00
        FAN        39.50
        SLEAP      40.00

    References:
        :mod:`dark_jax.conventions` names the source of each convention.
    """
    map_size, input_size = both_sizes(map_size, input_size, convention)
    return jnp.asarray(map_to_input_matrix(map_size, input_size, convention), float)
