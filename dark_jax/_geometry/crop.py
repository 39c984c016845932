"""Crop images to the input of a network."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.ndimage import map_coordinates
from jax.typing import ArrayLike

from dark_jax._core import checks
from dark_jax._core.numerics import together
from dark_jax._geometry.affine import push
from dark_jax._geometry.boxes import both_sizes, map_to_input_matrix, takes_convention
from dark_jax.conventions import Convention


@functools.partial(jax.jit, static_argnames="input_size")
def _crop(
    images: jax.Array,
    affine: jax.Array,
    fill: jax.Array,
    to_map: jax.Array,
    *,
    input_size: tuple[int, int],
) -> jax.Array:
    images, affine = together(images, affine)
    fill = jnp.broadcast_to(fill.astype(images.dtype), images.shape[-1:])
    rows, columns = (jnp.arange(side, dtype=images.dtype) for side in input_size)
    x, y = jnp.meshgrid(columns, rows)
    pixels = push(jnp.stack([x, y], axis=-1), to_map.astype(images.dtype))

    def one(image: jax.Array, affine: jax.Array) -> jax.Array:
        places = push(pixels, affine)
        at = [places[..., 1], places[..., 0]]

        def seen(channel: jax.Array) -> jax.Array:
            return map_coordinates(channel, at, order=1, mode="constant")

        # map_coordinates cannot take a traced value for the outside, so fill is added below.
        covered = [
            jnp.clip(jnp.minimum(p + 1, n - p), 0, 1) for p, n in zip(at, image.shape, strict=False)
        ]
        outside = (1 - covered[0] * covered[1])[..., None]
        filled = jnp.where(outside > 0, outside * fill[None, None], 0)
        return jax.vmap(seen, in_axes=-1, out_axes=-1)(image) + filled

    for _ in range(affine.ndim - 2 - (images.ndim - 3)):  # boxes of the same image
        one = jax.vmap(one, in_axes=(None, 0))
    for _ in range(images.ndim - 3):
        one = jax.vmap(one)
    return one(images, affine)


@takes_convention
def crop(
    images: ArrayLike,
    affine: ArrayLike,
    *,
    input_size: tuple[int, int],
    map_size: tuple[int, int],
    convention: Convention,
    fill: ArrayLike = 0.0,
) -> jax.Array:
    """Cut the network's input out of images, with the affine that maps keypoints back.

    Each pixel of the crop is mapped to the heatmap by ``convention`` and then to the image by
    ``affine``. The image is read there bilinearly. So :func:`to_image` with the same ``affine``
    is the exact way back.

    Args:
        images: ``[..., H, W, C]`` real numbers.
        affine: ``[..., 2, 3]`` real numbers, from heatmap to image, of :func:`box_to_affine`. Its
            first axes are the leading axes of ``images``. More axes are boxes in the same image:
            ``[B, I, 2, 3]`` for ``images [B, H, W, C]``, or ``[I, 2, 3]`` for one image.
        input_size: ``(H, W)`` of the crop, which is the network's input, in pixels; static.
        map_size: ``(H, W)`` of the heatmaps that ``affine`` was made for; static. Its aspect must
            be that of ``input_size``, up to rounding.
        convention: the convention that ``affine`` was made with; static. There is no default.
        fill: value outside the image: a number, or one for each channel; may be traced.

    Returns:
        ``[..., H, W, C]`` of ``input_size``, with the leading axes of ``affine``; float32
        (float64 if an array is). The values keep the scale of the images.

    Notes:
        As in the original code, the image is not smoothed first: if a box is much larger than the
        crop, pixels are skipped.

    Raises:
        TypeError: ``convention`` is missing; an array does not hold real numbers; the sizes do
            not hold integers.
        ValueError: ``images`` are not ``[..., H, W, C]`` or are empty; ``affine`` is not
            ``[..., 2, 3]``, or does not begin with the leading axes of ``images``; a size is not
            ``(H, W)``, each at least 1 (2 for ``DARKPOSE`` and ``UDP``); the sizes differ in
            aspect; ``fill`` does not broadcast to ``[C]``.

    Example:
        >>> import dark_jax
        >>> from dark_jax import samples
        >>> photo = samples.load().image  # [256, 256, 3]
        >>> udp = dark_jax.conventions.UDP
        >>> boxes = [[120, 20, 90, 120], [0, 0, 255, 255]]
        >>> affine = dark_jax.box_to_affine(boxes, map_size=(64, 48), convention=udp)
        >>> sizes = {"input_size": (256, 192), "map_size": (64, 48)}
        >>> dark_jax.crop(photo, affine, **sizes, convention=udp).shape
        (2, 256, 192, 3)

    References:
        OpenCV's ``warpAffine``, bilinear and with a constant border, as the originals call it.
    """
    images = checks.real_array("images", images)
    if len(images.shape) < 3 or 0 in images.shape[-3:]:
        raise ValueError(
            f"images must be [..., H, W, C] and not empty, got shape {tuple(images.shape)}"
        )
    affine = checks.real_array("affine", affine)
    if tuple(affine.shape[-2:]) != (2, 3):
        raise ValueError(f"affine must have shape [..., 2, 3], got {tuple(affine.shape)}")
    lead, boxes = tuple(images.shape[:-3]), tuple(affine.shape[:-2])
    if boxes[: len(lead)] != lead:
        raise ValueError(
            f"the leading axes of affine must begin with those of images, {lead}, got {boxes}"
        )
    map_size, input_size = both_sizes(map_size, input_size, convention)
    to_input = map_to_input_matrix(map_size, input_size, convention)
    linear = np.linalg.inv(to_input[:, :2])
    return _crop(
        images,
        affine,
        checks.broadcastable("fill", fill, tuple(images.shape[-1:])),
        np.column_stack([linear, -linear @ to_input[:, 2]]),
        input_size=input_size,
    )
