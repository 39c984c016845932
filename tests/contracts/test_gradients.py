"""Gradients are finite for every finite map, and agree with central differences in float64.

One compiled program per function and precision serves every test of this file. Gradients
with respect to parameters (sigma, temperature) are compared in the test file of their decoder.
"""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import dark_jax
from tests.contracts.decoders import FUNCTIONS, KINDS, RULES, SIZE
from tests.support import synthetic, tolerances
from tests.support.cases import slow_but

EVERY = {**FUNCTIONS, **RULES}
# The Newton step with guards, and the one without guards, which uses whole maps.
FIRST = ("decode narrow", "get_final_preds")
# Compared in their own test files, also for their parameters and in crowds.
BESIDE = ("fit", "peaks", "soft argmax", "soft argmax window")
RIGHT = [n for n in KINDS if n not in BESIDE]
RIGHT += ["decode narrow", "decode covariance", "gaussian_blur"]


def finite_maps() -> jax.Array:
    """``[1, N, H, W]``: degenerate maps, bumps, bumps cut to zero or on a floor, and noise."""
    degenerate = [m for m in synthetic.degenerate(SIZE).values() if np.isfinite(m).all()]
    bumps, _ = synthetic.gaussians(0, 6, SIZE, sigma=1.5, margin=0.0)
    kinds = (
        np.stack(degenerate),
        bumps,
        synthetic.cut(bumps, threshold=0.8),
        synthetic.on_floor(bumps, floor=0.5),
        synthetic.noise(1, 6, SIZE, zero_mean=True),
    )
    return jnp.asarray(np.concatenate(kinds)[None])


def smooth_maps() -> np.ndarray:
    """``[1, 32, H, W]``: bumps away from the edges, every other one cut to exact zeros."""
    bumps, _ = synthetic.gaussians(3, 32, SIZE, sigma=1.5, noise=0.01, margin=7.0)
    bumps[::2] = synthetic.cut(bumps[::2], threshold=0.8)
    return bumps[None]


def numbers(name: str, maps: jax.Array) -> list[jax.Array]:
    """All floats that a function returns, with zero in place of an infinite covariance."""
    leaves = jax.tree.leaves(EVERY[name](maps))
    floats = [leaf for leaf in leaves if jnp.issubdtype(leaf.dtype, jnp.floating)]
    return [jnp.where(jnp.isfinite(leaf), leaf, 0) for leaf in floats]


def weighted_sum(name: str, maps: jax.Array, weights: list[jax.Array]) -> jax.Array:
    return sum(
        ((leaf * w).sum() for leaf, w in zip(numbers(name, maps), weights, strict=True)),
        jnp.zeros((), maps.dtype),
    )


@functools.cache
def with_gradient(name: str) -> Callable[..., tuple[jax.Array, jax.Array]]:
    """The weighted sum of a function's numbers with its gradient in the maps, compiled once."""
    return jax.jit(jax.value_and_grad(functools.partial(weighted_sum, name)))


def weights_for(name: str, maps: jax.Array) -> list[jax.Array]:
    generator = synthetic.rng(2)
    shapes = jax.eval_shape(functools.partial(numbers, name), maps)
    return [jnp.asarray(generator.standard_normal(leaf.shape), leaf.dtype) for leaf in shapes]


@pytest.mark.parametrize("name", slow_but(FIRST, EVERY))
def test_finite_for_finite_maps(name: str) -> None:
    """Gradients are finite at every scale. Infinite covariances are left out of the sum."""
    maps = finite_maps()
    weights = weights_for(name, maps)
    for scale in (1e-25, 1.0, 1e25):
        _, gradient = with_gradient(name)(maps * scale, weights)
        assert np.isfinite(gradient).all(), scale


@pytest.mark.slow
@pytest.mark.parametrize("name", FIRST)
def test_finite_map_by_map_and_forwards(name: str) -> None:
    """Gradients are finite under vmap and in forward mode, at every scale.

    Each function needs two more programs.
    """

    def of_one_map(values: jax.Array, w: list[jax.Array]) -> jax.Array:
        return weighted_sum(name, values[None], w)

    under_vmap = jax.jit(jax.vmap(jax.grad(of_one_map), in_axes=(0, None)))
    forwards = jax.jit(
        lambda m: jax.jvp(functools.partial(numbers, name), (m,), (jnp.ones_like(m),))
    )
    few = finite_maps()[0, :, None]
    weights = weights_for(name, few[:1])
    for scale in (1e-25, 1.0, 1e25):
        assert np.isfinite(under_vmap(few * scale, weights)).all(), scale
        _, tangents = forwards(finite_maps() * scale)
        assert all(np.isfinite(tangent).all() for tangent in tangents), scale


@pytest.mark.parametrize("name", slow_but(FIRST, RIGHT))
def test_right_by_central_differences(name: str) -> None:
    """Directions are random. Half of the bumps have exact zeros around the peak."""
    generator = synthetic.rng(4)
    with jax.enable_x64(True):
        maps = jnp.asarray(smooth_maps(), jnp.float64)
        weights = weights_for(name, maps)
        _, gradient = with_gradient(name)(maps, weights)
        for _ in range(5):
            # Zeros stay zeros, because the gradient jumps at the floor of the logarithm.
            direction = generator.standard_normal(maps.shape) * (np.asarray(maps) != 0)
            step = 1e-6
            ahead, behind = (
                with_gradient(name)(maps + sign * step * direction, weights)[0] for sign in (1, -1)
            )
            slope = (ahead - behind) / (2 * step)
            np.testing.assert_allclose(
                (gradient * direction).sum(), slope, rtol=tolerances.GRADIENT, atol=1e-6
            )


@pytest.mark.parametrize("power", [-64, 65, 100])
def test_blur_has_the_same_gradient_at_any_scale(power: int) -> None:
    """The blur is homogeneous of degree one."""
    maps = finite_maps()
    gradient = jax.jit(jax.grad(lambda m: dark_jax.gaussian_blur(m, 5).sum()))
    plain, scaled = gradient(maps), gradient(maps * 2.0**power)
    np.testing.assert_allclose(scaled, plain, rtol=0, atol=1e-4)


def test_encode() -> None:
    generator = synthetic.rng(5)
    with jax.enable_x64(True):
        coords = jnp.asarray(generator.uniform(2, 8, (6, 2)))
        sigma = jnp.asarray(generator.uniform(1, 3, (6, 1)))
        weights = jnp.asarray(generator.standard_normal((6, 10, 11)))

        @jax.jit
        def loss(c: jax.Array, s: jax.Array) -> jax.Array:
            return (dark_jax.encode(c, size=(10, 11), sigma=s) * weights).sum()

        by_coords, by_sigma = jax.jit(jax.grad(loss, argnums=(0, 1)))(coords, sigma)
        step = 1e-6
        for index in np.ndindex(6, 2):
            nudge = jnp.zeros((6, 2)).at[index].set(step)
            slope = (loss(coords + nudge, sigma) - loss(coords - nudge, sigma)) / (2 * step)
            np.testing.assert_allclose(by_coords[index], slope, rtol=tolerances.GRADIENT, atol=1e-8)
        for index in range(6):
            nudge = jnp.zeros((6, 1)).at[index].set(step)
            slope = (loss(coords, sigma + nudge) - loss(coords, sigma - nudge)) / (2 * step)
            found = by_sigma[index, 0]
            np.testing.assert_allclose(found, slope, rtol=tolerances.GRADIENT, atol=1e-8)


def test_encode_is_finite_everywhere() -> None:
    coords = jnp.array([[1e30, 0], [np.nan, 1], [np.inf, 2], [-1e4, 3], [4, 4]], jnp.float32)
    sigma = jnp.array([1, 1, 1, 1e-20, 0], jnp.float32)[:, None]
    for quantize in (False, True):

        @functools.partial(jax.grad, argnums=(0, 1))
        def gradient(c: jax.Array, s: jax.Array, quantize: bool = quantize) -> jax.Array:
            return dark_jax.encode(c, size=(8, 8), sigma=s, quantize=quantize).sum()

        assert all(np.isfinite(g).all() for g in jax.jit(gradient)(coords, sigma))


def test_decode_of_encode_has_the_identity_as_jacobian() -> None:
    """If a keypoint moves, the decoded one moves by the same amount."""
    jacobian = jax.jit(
        jax.jacobian(lambda c: dark_jax.decode(dark_jax.encode(c, size=(25, 24), sigma=2.0)).coords)
    )
    for point in ([11.3, 12.8], [12.0, 12.0]):
        np.testing.assert_allclose(jacobian(jnp.array(point)), np.eye(2), atol=5e-3)
