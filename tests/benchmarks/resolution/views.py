"""The inputs of a network at one resolution, and the maps that it should return."""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import dark_jax
from dark_jax import conventions
from dark_jax._ops.gaussian import blur, gaussian_kernel
from tests.benchmarks.resolution.frames import SIDE, Frames

CONVENTION = conventions.HALF_PIXEL
STRIDE = 4
# The maps of the network are [B, H, W, J], in the layout of its convolutions.
AXES = (-3, -2)
LARGEST, SHIFT, CONTRAST, BRIGHTNESS = 1.25, 20.0, (0.7, 1.4), 0.3


class Setting(NamedTuple):
    """A resolution: the side of the square input, and the target sigma in heatmap pixels."""

    side: int
    sigma: float

    @property
    def input_size(self) -> tuple[int, int]:
        """``(H, W)`` of the input of the network."""
        return self.side, self.side

    @property
    def map_size(self) -> tuple[int, int]:
        """``(H, W)`` of the maps of the network."""
        return self.side // STRIDE, self.side // STRIDE


SETTINGS = (Setting(32, 1.0), Setting(64, 1.5), Setting(128, 2.0))


class Seen(NamedTuple):
    """Frames on the device, ready to be read at one resolution.

    Attributes:
        images: ``[N, H, W, C]``, each minus its mean and divided by its standard deviation.
            They are smoothed, because a crop reads them with gaps.
        points: ``[N, J, 2]`` in pixels of the frame.
        boxes: ``[N, 4]``.
        swap: ``[J]``, the joint that each joint becomes in a mirror.
        turn: degrees, as in :class:`Frames`.
    """

    images: jax.Array
    points: jax.Array
    boxes: jax.Array
    swap: jax.Array
    turn: jax.Array


def prepare(frames: Frames, setting: Setting) -> Seen:
    """Prepare ``frames`` for training and testing at one resolution."""
    swap = np.arange(len(frames.joints))
    for left, right in frames.pairs:
        swap[[left, right]] = right, left
    return Seen(
        images=_smooth(jnp.asarray(frames.images), sigma=0.5 * SIDE / setting.side),
        points=jnp.asarray(frames.points),
        boxes=jnp.asarray(frames.boxes),
        swap=jnp.asarray(swap),
        turn=jnp.asarray(frames.turn, jnp.float32),
    )


@functools.partial(jax.jit, static_argnames="sigma")
def _smooth(images: jax.Array, *, sigma: float) -> jax.Array:
    mean = jnp.mean(images, axis=(1, 2, 3), keepdims=True)
    spread = jnp.std(images, axis=(1, 2, 3), keepdims=True)
    kernels = [gaussian_kernel(sigma)] * 2
    channels = jax.vmap(lambda one: blur(one, kernels), in_axes=-1, out_axes=-1)
    return jax.vmap(channels)((images - mean) / jnp.maximum(spread, 1e-3))


@functools.partial(jax.jit, static_argnames="setting")
def look(seen: Seen, *, setting: Setting) -> tuple[jax.Array, jax.Array]:
    """The inputs of the network ``[N, h, w, C]``, and heatmap -> frame ``[N, 2, 3]``."""
    affine = dark_jax.box_to_affine(
        seen.boxes, map_size=setting.map_size, convention=CONVENTION, padding=1.0
    )
    return _crop(seen.images, affine, setting), affine


def _crop(images: jax.Array, affine: jax.Array, setting: Setting) -> jax.Array:
    return dark_jax.crop(
        images,
        affine,
        input_size=setting.input_size,
        map_size=setting.map_size,
        convention=CONVENTION,
    )


def to_map(points: jax.Array, affine: jax.Array) -> jax.Array:
    """Transform pixels of the frame to pixels of the heatmap."""
    return dark_jax.apply_affine(points, dark_jax.invert_affine(affine))


def examples(
    key: jax.Array, seen: Seen, *, setting: Setting, count: int
) -> tuple[jax.Array, jax.Array]:
    """Inputs ``[count, h, w, C]`` and exact targets ``[count, H, W, J]`` to train on.

    Frames are drawn, turned, mirrored, scaled, shifted and changed in contrast at random.
    """
    keys = iter(jax.random.split(key, 7))

    def uniform(low: float, high: float, shape: tuple[int, ...] = (count,)) -> jax.Array:
        return jax.random.uniform(next(keys), shape, minval=low, maxval=high)

    chosen = jax.random.randint(next(keys), (count,), 0, len(seen.images))
    shift = uniform(-SHIFT, SHIFT, (count, 2))
    boxes = seen.boxes[chosen] + jnp.concatenate([shift, jnp.zeros_like(shift)], axis=-1)
    affine = dark_jax.box_to_affine(
        boxes,
        map_size=setting.map_size,
        convention=CONVENTION,
        padding=LARGEST ** uniform(-1, 1),
        rotation=seen.turn * uniform(-1, 1),
    )
    turned = jax.random.bernoulli(next(keys), shape=(count, 1, 1))
    affine = jnp.where(turned, mirrored(affine, setting.map_size), affine)
    points = seen.points[chosen]
    points = jnp.where(turned, points[:, seen.swap], points)
    inputs = _crop(seen.images[chosen], affine, setting)
    inputs = inputs * uniform(*CONTRAST, (count, 1, 1, 1))
    inputs += uniform(-BRIGHTNESS, BRIGHTNESS, (count, 1, 1, 1))
    return inputs, targets(points, affine, setting=setting)


def targets(points: jax.Array, affine: jax.Array, *, setting: Setting) -> jax.Array:
    """Exact Gaussians ``[..., H, W, J]`` at points of the frame."""
    coords = to_map(points, affine)
    return dark_jax.encode(coords, size=setting.map_size, sigma=setting.sigma, axes=AXES)


def mirrored(affine: jax.Array, size: tuple[int, int]) -> jax.Array:
    """Heatmap -> frame for a mirrored heatmap: column x shows what W - 1 - x showed."""
    last = affine[..., 2] + (size[1] - 1) * affine[..., 0]
    return jnp.stack([-affine[..., 0], affine[..., 1], last], axis=-1)
