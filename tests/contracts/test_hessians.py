"""Gradients and Hessians of awkward maps: a finite map never gives NaN or infinity.

Hessians are multiplied by one dense direction, forward over reverse: if an entry is not finite,
the product is not either. One compiled program per function and precision serves every scale.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import dark_jax
from tests.contracts.decoders import DECODERS, KINDS, RULES, SIZE
from tests.support import synthetic
from tests.support.cases import slow_but

# Decoders with a parameter for each map, and its value. Derivatives include the parameter.
WITH_PARAMETER: dict[str, tuple[Callable[[Any, Any], Any], float]] = {
    "fit of sigma": (lambda m, p: dark_jax.decode_fit(m, sigma=p[..., None], radius=5), 2.0),
    "fit of background": (lambda m, p: dark_jax.decode_fit(m, sigma=2.0, background=p), 0.1),
    "soft argmax of temperature": (
        lambda m, p: dark_jax.decode_soft_argmax(m, temperature=p),
        0.03,
    ),
    "soft argmax window of temperature": (
        lambda m, p: dark_jax.decode_soft_argmax(m, temperature=p, radius=4),
        0.1,
    ),
}
EVERY = (*DECODERS, *RULES, *WITH_PARAMETER)
FIRST = ("decode narrow", "soft argmax window of temperature")
# A second derivative grows as the inverse square of the scale. float32 does not hold 1e50.
SCALES = {"gradient": (1e-30, 1e-25, 1e-12, 1.0, 1e12, 1e25, 1e30), "hessian": (1e-12, 1.0, 1e12)}


def awkward_maps() -> dict[str, np.ndarray]:
    """Float64 maps ``[H, W]``, finite in float32. Most are also finite after scaling by 1e30."""
    (height, width), full = SIZE, functools.partial(np.full, SIZE)
    y, x = np.mgrid[:height, :width]

    def blob(at_x: float, at_y: float, sigma: float = 2.0) -> np.ndarray:
        return synthetic.draw(np.array([[at_x, at_y]]), SIZE, sigma=sigma)[0]

    def ones(*pixels: tuple[int | slice, int | slice]) -> np.ndarray:
        values = full(0.0)
        for pixel in pixels:
            values[pixel] = 1.0
        return values

    generator = synthetic.rng(0)
    bump, noise = blob(8.2, 9.3), generator.standard_normal(SIZE)
    radius = np.hypot(y - 9, x - 8)
    return {
        "zero": full(0.0),
        "constant": full(0.7),
        "negative constant": full(-0.7),
        "hot pixel": ones((9, 8)),
        "two equal": ones((9, 5), (9, 12)),
        "two that touch": ones((9, 8), (9, 9)),
        "flat top": ones((slice(8, 11), slice(7, 10))),
        "ring": np.exp(-0.5 * (radius - 5) ** 2),
        "ramp": x / width,
        "plane": (x + y) / (width + height),
        "ridge": np.exp(-((x - 8.0) ** 2) / 4) + 0.0 * y,
        "slanted ridge": np.exp(-((x - y) ** 2) / 4),
        "corner": blob(0, 0),
        "last corner": blob(width - 1, height - 1),
        "edge": blob(0, 9),
        "one from the edge": blob(1, 9),
        "two from the edge": blob(8, 2),
        "bump": bump,
        "bump on a pixel": blob(8, 9),
        "narrow": blob(8.2, 9.3, 0.3),
        "wide": blob(8.2, 9.3, 30.0),
        "negative": bump - 2,
        "on a floor": bump - 0.5,
        "cut": np.maximum(bump - 0.8, 0),
        "half": bump * (x > 8),
        "noise": noise,
        "checkerboard": np.abs(noise) * np.where((x + y) % 2, -1, 1),
        "steep noise": noise * 10.0 ** generator.integers(-6, 6, SIZE),
        "30 decades": 10.0 ** (30 * bump - 30),
        "60 decades": 10.0 ** (60 * bump - 30),
        "one pixel above all": np.where(bump == bump.max(), 1e30, 1e-20 * bump),
    }


AWKWARD = awkward_maps()


def scaled(scale: float) -> np.ndarray:
    """``[1, N, H, W]``: the scaled maps. A map that float32 would not hold is not scaled."""
    maps = np.stack([*AWKWARD.values()])
    held = np.abs(scale * maps).max(axis=(-2, -1), keepdims=True) < 1e37
    return np.where(held, scale * maps, maps)[None]


def decoded(name: str, maps: jax.Array, parameter: jax.Array) -> Any:
    if name in WITH_PARAMETER:
        return WITH_PARAMETER[name][0](maps, parameter)
    return {**DECODERS, **RULES}[name](maps)


def weighted_sum(name: str, maps: jax.Array, parameter: jax.Array) -> jax.Array:
    """A weighted sum of coordinates and scores."""
    found = decoded(name, maps, parameter)
    arrays = (found.coords, found.scores) if isinstance(found, dark_jax.Keypoints) else found
    generator, total = synthetic.rng(2), jnp.zeros((), maps.dtype)
    for array in arrays:
        weights = jnp.asarray(generator.standard_normal(array.shape), array.dtype)
        total += (array * weights).sum()
    return total


@functools.cache
def derivatives(name: str) -> Callable[..., Any]:
    """The result, the gradient in maps and parameter, and the Hessian times a direction."""

    def of(maps: jax.Array, parameter: jax.Array, direction: jax.Array) -> Any:
        gradient = jax.grad(functools.partial(weighted_sum, name), argnums=(0, 1))
        tangents = direction, jnp.ones_like(parameter)
        first, second = jax.jvp(gradient, (maps, parameter), tangents)
        return decoded(name, maps, parameter), first, second

    return jax.jit(of)


def not_finite(arrays: Any, is_good: Callable[[Any], Any] = np.isfinite) -> list[str]:
    """The names of the maps for which ``is_good`` is false somewhere."""
    bad = [~is_good(np.asarray(a)).reshape(len(AWKWARD), -1).all(axis=1) for a in arrays]
    return [name for name, is_bad in zip(AWKWARD, np.logical_or.reduce(bad), strict=True) if is_bad]


def assert_finite(name: str, dtype: Any, scale: float, *, hessian: bool) -> None:
    maps = jnp.asarray(scaled(scale), dtype)
    value = WITH_PARAMETER[name][1] if name in WITH_PARAMETER else 1.0
    parameter = jnp.full(maps.shape[:2], value, dtype)
    direction = jnp.asarray(synthetic.rng(1).standard_normal(maps.shape), dtype)
    found, first, second = derivatives(name)(maps, parameter, direction)
    assert not_finite(jax.tree.leaves(found), lambda a: ~np.isnan(a)) == [], scale
    assert not_finite(first) == [], scale
    if hessian:
        assert not_finite(second) == [], scale


@pytest.mark.parametrize("name", slow_but(FIRST, EVERY))
def test_finite(name: str) -> None:
    """Gradients are finite at every scale, and Hessians where float32 holds their size."""
    for scale in SCALES["gradient"]:
        assert_finite(name, jnp.float32, scale, hessian=scale in SCALES["hessian"])


@pytest.mark.slow
@pytest.mark.parametrize("name", [*KINDS, *WITH_PARAMETER])
def test_finite_in_float64(name: str) -> None:
    """Gradients and Hessians are finite at every scale."""
    with jax.enable_x64(True):
        for scale in SCALES["gradient"]:
            assert_finite(name, jnp.float64, scale, hessian=True)
