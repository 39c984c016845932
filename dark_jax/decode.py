"""Peak, window, step: composition only."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.typing import ArrayLike

from dark_jax import checks
from dark_jax.batch import over_leading
from dark_jax.floats import as_float, inverse_power_of_two
from dark_jax.gaussian import blur_to_old_maximum, gaussian_kernel, kernel_sigma, opencv_kernel
from dark_jax.keypoints import Keypoints, Status
from dark_jax.peak import find_peak, reference_coords
from dark_jax.taylor import (
    derivatives,
    interior,
    reference_step,
    refinable,
)
from dark_jax.window import STENCIL, blurred_stencil, read, read_for

# The reference's floor under the logarithm, there for maps whose maximum is about one.
FLOOR = 1e-10

# A map with a value below this many times the window's most negative pixel is computed in
# float64: its digits have cancelled.
CANCELLED = 0.1

DEFAULT_KERNEL_SIZE = 11


def _decode_one(heatmap: jax.Array, *, kernel: np.ndarray, longest: float) -> Keypoints:
    peak = find_peak(heatmap)
    values = blurred_stencil(read_for(heatmap, peak, kernel), kernel)
    finite, positive = jnp.isfinite(values[0]), peak.score > 0
    score = jnp.where(finite & positive, peak.score, 1)
    # The step does not depend on scale, and a power of two changes no digit: this is the
    # reference's mathematics bit for bit. The floor moves with the score.
    scale = inverse_power_of_two(score)
    values = jnp.maximum(jnp.where(finite, values, 0) * scale, FLOOR * (score * scale))
    d = derivatives(jnp.log(values))

    x, y = d.numerator
    too_long = x * x + y * y > (longest * d.det) ** 2
    # Computed rather than chosen: a choice between two constants fails on explicit meshes.
    status = too_long.astype(jnp.int8) * jnp.int8(Status.STEP_TOO_LONG)
    for failed, reason in (  # the last that applies wins
        (~((d.dxx < 0) & (d.det > 0)), Status.NOT_CONCAVE),
        (~interior(peak.x, peak.y, heatmap.shape), Status.BORDER),
        (~positive, Status.NO_PEAK),
        (~finite, Status.NOT_FINITE),
    ):
        status = jnp.where(failed, jnp.int8(reason), status)

    coords = peak.coords + d.step(status == Status.REFINED.value)
    coords = jnp.where(jnp.isnan(peak.score), jnp.nan, coords)
    return Keypoints(coords=coords, scores=peak.score, status=status)


@functools.partial(jax.jit, static_argnames=("kernel_size", "sigma"))
def _decode(heatmaps: jax.Array, *, kernel_size: int | None, sigma: float | None) -> Keypoints:
    if kernel_size is not None:
        kernel, sigma = opencv_kernel(kernel_size), kernel_sigma(kernel_size)
    else:
        assert sigma is not None
        kernel = gaussian_kernel(sigma)
    one = functools.partial(_decode_one, kernel=kernel, longest=max(1.5, sigma))
    return over_leading(one, heatmaps.ndim - 2)(heatmaps)


def decode(
    heatmaps: ArrayLike, *, kernel_size: int | None = None, sigma: float | None = None
) -> Keypoints:
    """Sub-pixel keypoints of heatmaps by guarded DARK.

    The peak of each map is its maximum. Around it the map is blurred, logged, and one
    Newton step taken to the maximum of its second-order expansion, where that is well
    posed; elsewhere the integer peak stays and ``status`` says why. Scale-free: the maps
    may be of any positive scale. Composes under ``jit``, ``vmap``, ``grad`` and sharding.

    Args:
        heatmaps: ``[..., H, W]`` real. Computed in float32 (float64 for float64 input).
        kernel_size: odd size in pixels of the blur, with OpenCV's coefficients, as for
            :func:`gaussian_blur`; static. 11 if neither this nor ``sigma`` is given.
        sigma: blur with a true Gaussian of this many pixels, cut at ``ceil(3 sigma)``;
            static.

    Returns:
        :class:`Keypoints`: ``coords [..., 2]``, ``(x, y)`` in heatmap pixels;
        ``scores [...]``, the raw maxima; ``status [...]``, a :class:`Status`. A step is
        too long beyond ``max(1.5, sigma of the blur)`` pixels. Coordinates are NaN only
        where the map holds a NaN.

    Raises:
        TypeError: ``heatmaps`` does not hold real numbers; ``kernel_size`` is no integer
            or ``sigma`` no concrete number.
        ValueError: ``heatmaps`` has fewer than two axes or an empty map; ``kernel_size``
            is even or below 1; ``sigma`` is not positive and finite; both are given.

    Example:
        >>> import jax
        >>> import dark_jax
        >>> heatmaps = dark_jax.encode([[20.25, 30.5], [24.0, 18.75]], size=(64, 48))
        >>> keypoints = jax.jit(dark_jax.decode)(heatmaps)
        >>> keypoints.coords.round(2).tolist()
        [[20.25, 30.5], [24.0, 18.75]]
        >>> keypoints.status.tolist() == [dark_jax.Status.REFINED] * 2
        True

    References:
        Zhang et al., Distribution-Aware Coordinate Representation for Human Pose
        Estimation, CVPR 2020, arXiv:1910.06278.
    """
    heatmaps = checks.maps("heatmaps", heatmaps)
    if kernel_size is not None and sigma is not None:
        raise ValueError(
            f"give kernel_size or sigma, not both: got kernel_size={kernel_size}, sigma={sigma}"
        )
    if sigma is not None:
        sigma = checks.positive("sigma", sigma)
    else:
        kernel_size = DEFAULT_KERNEL_SIZE if kernel_size is None else kernel_size
        kernel_size = checks.odd_kernel("kernel_size", kernel_size)
    return _decode(heatmaps, kernel_size=kernel_size, sigma=sigma)


@functools.partial(jax.custom_jvp, nondiff_argnums=(1,))
def _coords_from_map(heatmap: jax.Array, kernel: int) -> jax.Array:
    """The reference's coordinates for one map, in float64 whatever the precision outside."""
    with jax.enable_x64(True):
        coords = _literal_coords(heatmap.astype(jnp.float64), kernel)
        return coords.astype(as_float(heatmap).dtype)


@_coords_from_map.defjvp
def _coords_from_map_jvp(kernel, primals, tangents):
    # float64 code cannot be differentiated where float64 is off.
    _, tangent = jax.jvp(lambda heatmap: _literal_coords(heatmap, kernel), primals, tangents)
    return _coords_from_map(*primals, kernel), tangent


def _literal_coords(heatmap: jax.Array, kernel: int) -> jax.Array:
    """Peak; the whole map blurred and rescaled; log of at least FLOOR; step."""
    peak = find_peak(heatmap)
    blurred = blur_to_old_maximum(heatmap, opencv_kernel(kernel))
    values = jnp.maximum(read(blurred, peak, STENCIL), FLOOR)
    valid = refinable(peak, heatmap.shape)
    step = reference_step(jnp.log(jnp.where(valid, values, 1)), valid)
    return reference_coords(peak) + step


def _coords_from_window(heatmap: jax.Array, kernel: int) -> tuple[jax.Array, jax.Array, jax.Array]:
    """The same from the peak's neighbourhood alone, the score, and whether that is exact.

    Rescaling never shrinks a map, so no value of at least FLOOR is clamped; where none is,
    the scale is a constant in the log that the step does not see. But a value that is what
    large terms of both signs leave over has lost its digits in float32.
    """
    peak = find_peak(heatmap)
    around = read_for(heatmap, peak, opencv_kernel(kernel))
    values = blurred_stencil(around, opencv_kernel(kernel))
    enough = jnp.all(values >= jnp.maximum(FLOOR, -CANCELLED * jnp.min(around)))
    valid = refinable(peak, heatmap.shape)
    stepped = valid & enough
    values = jnp.where(stepped, values, 1) * inverse_power_of_two(peak.score)
    step = reference_step(jnp.log(values), stepped)
    return reference_coords(peak) + step, peak.score[None], enough | ~valid


@functools.partial(jax.jit, static_argnames="kernel")
def _get_final_preds(heatmaps: jax.Array, *, kernel: int) -> tuple[jax.Array, jax.Array]:
    def keep(args: tuple[jax.Array, ...]) -> jax.Array:
        return args[1]

    def redo_image(args: tuple[jax.Array, ...]) -> jax.Array:
        heatmaps, coords, exact = args
        redone = jax.vmap(lambda heatmap: _coords_from_map(heatmap, kernel))(heatmaps)
        return jnp.where(exact[:, None], coords, redone)

    def redo(args: tuple[jax.Array, ...]) -> jax.Array:
        # One image at a time: the blurred maps of a whole batch are never in memory.
        return lax.map(lambda image: lax.cond(jnp.all(image[2]), keep, redo_image, image), args)

    from_window = over_leading(lambda heatmap: _coords_from_window(heatmap, kernel), 2)
    coords, maxvals, exact = from_window(heatmaps)
    return lax.cond(jnp.all(exact), keep, redo, (heatmaps, coords, exact)), maxvals


def get_final_preds(heatmaps: ArrayLike, kernel: int = 3) -> tuple[jax.Array, jax.Array]:
    """Sub-pixel keypoints of a batch of heatmaps, exactly as the reference gives them.

    The reference's unguarded rules: the peak of the raw map; blur and rescale
    (:func:`gaussian_blur`); log of at least 1e-10; one unbounded Newton step
    (:func:`taylor`), skipped within two pixels of an edge and where the Hessian is
    singular. For guards and a status use :func:`decode`.

    Only the neighbourhood of each peak is blurred, except for images where a value there
    is so low that the 1e-10 may bite, whose result depends on the whole blurred map. That
    choice is made from the data: under a ``vmap`` of yours both branches run; on a batch
    sharded over an automatic mesh it costs collectives, and an explicit mesh refuses it.
    Call it inside ``jax.shard_map`` there.

    Args:
        heatmaps: ``[B, J, H, W]`` real.
        kernel: odd size of the blur in pixels, at least 1; static.

    Returns:
        ``coords [B, J, 2]``, ``(x, y)`` in heatmap pixels, (0, 0) where the maximum is not
        above zero; ``maxvals [B, J, 1]``, the raw maximum of each map. Both float32
        (float64 for float64 input). As in the reference, coordinates are NaN where the
        maximum, not at a border, is infinite.

    Raises:
        TypeError: ``heatmaps`` does not hold real numbers, or ``kernel`` is no integer.
        ValueError: ``heatmaps`` is not ``[B, J, H, W]`` with H and W at least 1, or
            ``kernel`` is even or below 1.

    Example:
        >>> import dark_jax
        >>> heatmaps = dark_jax.encode([[[20.25, 30.5]]], size=(64, 48))
        >>> coords, maxvals = dark_jax.get_final_preds(heatmaps, 11)
        >>> coords.round(2).tolist()
        [[[20.25, 30.5]]]

    References:
        ``get_final_preds`` of DarkPose (Zhang et al., CVPR 2020, arXiv:1910.06278).
    """
    return _get_final_preds(
        checks.maps("heatmaps", heatmaps, layout="[B, J, H, W]"),
        kernel=checks.odd_kernel("kernel", kernel),
    )
