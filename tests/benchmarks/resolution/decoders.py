"""The decoders that are compared, and the whole step from a frame to its keypoints."""

import dataclasses
import functools
import math
from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp
from flax import nnx

import dark_jax
from dark_jax import Keypoints, rules
from dark_jax._codecs.decode_fit import REACH
from tests.benchmarks.resolution.network import UNet
from tests.benchmarks.resolution.views import AXES, Setting

Decoder = Callable[[jax.Array], Keypoints]

# A quarter step of length zero gives the maximum itself.
ARGMAX = dataclasses.replace(rules.HRNET, name="ARGMAX", source="no step", fixed_step=0.0)


def _estimated(maps: jax.Array, *, setting: Setting) -> Keypoints:
    """Fit with the sigma of the blobs in the maps, and not with that of the training."""
    sigma = dark_jax.estimate_sigma(maps, axes=AXES)
    sigma = jnp.where(jnp.isfinite(sigma), sigma, setting.sigma)
    radius = math.ceil(REACH * setting.sigma)
    return dark_jax.decode_fit(maps, sigma=sigma, radius=radius, axes=AXES)


@functools.cache
def decoders(setting: Setting) -> Mapping[str, Decoder]:
    """Functions of maps ``[B, H, W, J]``, by name."""
    along = functools.partial(functools.partial, axes=AXES)
    return {
        "argmax": along(dark_jax.decode, rule=ARGMAX),
        "quarter step": along(dark_jax.decode, rule=rules.HRNET),
        "DARK, k = 3": along(dark_jax.decode, kernel_size=3),
        "DARK, k = 5": along(dark_jax.decode),
        "DARK, k = 11": along(dark_jax.decode, kernel_size=11),
        "fit": along(dark_jax.decode_fit, sigma=setting.sigma),
        "fit, sigma estimated": functools.partial(_estimated, setting=setting),
    }


@functools.partial(nnx.jit, static_argnames="ways")
def evaluate(
    network: UNet, inputs: jax.Array, affine: jax.Array, *, ways: tuple[Decoder, ...]
) -> list[Keypoints]:
    """Run network, decoders and the way back to the frame in one program.

    There is one result per decoder.
    """
    maps = network(inputs)
    return [dark_jax.to_image(decoder(maps), affine) for decoder in ways]


@nnx.jit
def answer(network: UNet, inputs: jax.Array) -> jax.Array:
    """Only the maps."""
    return network(inputs)
