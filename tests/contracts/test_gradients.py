"""Gradients: finite for every finite map, and right by central differences in float64."""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import dark_jax
from tests.support import synthetic, tolerances

FUNCTIONS: dict[str, Callable[[jax.Array], jax.Array]] = {
    "decode": lambda maps: dark_jax.decode(maps, kernel_size=3).coords,
    "decode wide": lambda maps: dark_jax.decode(maps).coords,
    "decode sigma": lambda maps: dark_jax.decode(maps, sigma=1.5).coords,
    "get_final_preds": lambda maps: dark_jax.get_final_preds(maps)[0],
    "gaussian_blur": lambda maps: dark_jax.gaussian_blur(maps, 5),
    "decode scores": lambda maps: dark_jax.decode(maps).scores,
    "decode covariance": lambda maps: known(dark_jax.decode(maps, sigma=1.0, covariance=True)),
    "fit": lambda maps: dark_jax.decode_fit(maps, sigma=1.5).coords,
    "fit covariance": lambda maps: known(dark_jax.decode_fit(maps, sigma=1.5)),
}


def known(keypoints: dark_jax.Keypoints) -> jax.Array:
    """The covariance, zero where it is infinite."""
    return jnp.where(jnp.isfinite(keypoints.covariance), keypoints.covariance, 0)


# What decides about the rest is among these; the others compile long, and the fit has fast
# tests of its gradient among its own.
EACH = [
    n if n in ("decode", "get_final_preds") else pytest.param(n, marks=pytest.mark.slow)
    for n in FUNCTIONS
]


def finite_maps() -> jax.Array:
    degenerate = [m for m in synthetic.degenerate((16, 14)).values() if np.isfinite(m).all()]
    bumps, _ = synthetic.gaussians(0, 6, (16, 14), sigma=1.5, margin=0.0)
    maps = np.stack(
        [
            *degenerate,
            *bumps,
            *synthetic.cut(bumps, threshold=0.8),
            *synthetic.on_floor(bumps, floor=0.5),
            *synthetic.noise(1, 6, (16, 14), zero_mean=True),
        ]
    )
    return jnp.asarray(maps[None])


@functools.cache
def weighted(name: str) -> Callable[..., tuple[jax.Array, jax.Array]]:
    """The weighted sum of a function's results with its gradient in the maps, compiled once."""
    return jax.jit(jax.value_and_grad(lambda maps, w: (FUNCTIONS[name](maps) * w).sum()))


def weights_for(name: str, maps: jax.Array) -> jax.Array:
    shape = jax.eval_shape(FUNCTIONS[name], maps).shape
    return jnp.asarray(synthetic.rng(2).standard_normal(shape), maps.dtype)


@pytest.mark.parametrize(
    "scale", [*(pytest.param(s, marks=pytest.mark.slow) for s in (1e-25, 1.0)), 1e25]
)
@pytest.mark.parametrize("name", EACH)
def test_finite_for_finite_maps(name: str, scale: float) -> None:
    maps = finite_maps() * scale
    _, gradient = weighted(name)(maps, weights_for(name, maps))
    assert np.isfinite(gradient).all()


@pytest.mark.slow
@pytest.mark.parametrize("name", FUNCTIONS)
def test_finite_map_by_map_and_forwards(name: str) -> None:
    """Under vmap and in forward mode, at every scale: two more programs of each function."""

    def one_map(values: jax.Array, w: jax.Array) -> jax.Array:
        return (FUNCTIONS[name](values[None]) * w[None]).sum()

    under_vmap = jax.jit(jax.vmap(jax.grad(one_map)))
    forwards = jax.jit(lambda m: jax.jvp(FUNCTIONS[name], (m,), (jnp.ones_like(m),)))
    for scale in (1e-25, 1.0, 1e25):
        maps = finite_maps() * scale
        assert np.isfinite(under_vmap(maps, weights_for(name, maps))).all()
        assert np.isfinite(forwards(maps)[1]).all()


@pytest.mark.parametrize("kind", ["smooth", "clamped"])
@pytest.mark.parametrize("name", EACH)
def test_right_by_central_differences(name: str, kind: str) -> None:
    """Along random directions; ``clamped`` maps have exact zeros around the peak."""
    bumps, _ = synthetic.gaussians(3, 5, (16, 14), sigma=1.5, noise=0.01, margin=5.0)
    maps = bumps if kind == "smooth" else synthetic.cut(bumps, threshold=0.8)
    generator = synthetic.rng(4)
    with jax.enable_x64(True):
        maps = jnp.asarray(maps, jnp.float64)[None]
        weights = weights_for(name, maps)
        _, gradient = weighted(name)(maps, weights)
        for _ in range(5):
            # Zeros stay zeros: the logarithm's floor is a switch.
            direction = generator.standard_normal(maps.shape) * (np.asarray(maps) != 0)
            step = 1e-6
            ahead, behind = (
                weighted(name)(maps + sign * step * direction, weights)[0] for sign in (1, -1)
            )
            slope = (ahead - behind) / (2 * step)
            np.testing.assert_allclose(
                (gradient * direction).sum(), slope, rtol=tolerances.GRADIENT, atol=1e-6
            )


@pytest.mark.parametrize("power", [-64, 65, 100])
def test_blur_has_the_same_gradient_at_any_scale(power: int) -> None:
    """It is homogeneous of degree one."""
    maps = finite_maps()
    scale = 2.0**power
    plain = jax.grad(lambda m: (dark_jax.gaussian_blur(m, 5)).sum())(maps)
    scaled = jax.grad(lambda m: (dark_jax.gaussian_blur(m, 5)).sum())(maps * scale)
    np.testing.assert_allclose(scaled, plain, rtol=0, atol=1e-4)


def test_encode() -> None:
    generator = synthetic.rng(5)
    with jax.enable_x64(True):
        coords = jnp.asarray(generator.uniform(2, 8, (6, 2)))
        sigma = jnp.asarray(generator.uniform(1, 3, 6))
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
            nudge = jnp.zeros(6).at[index].set(step)
            slope = (loss(coords, sigma + nudge) - loss(coords, sigma - nudge)) / (2 * step)
            np.testing.assert_allclose(by_sigma[index], slope, rtol=tolerances.GRADIENT, atol=1e-8)


def test_encode_is_finite_everywhere() -> None:
    coords = jnp.array([[1e30, 0], [np.nan, 1], [np.inf, 2], [-1e4, 3], [4, 4]], jnp.float32)
    sigma = jnp.array([1, 1, 1, 1e-20, 0], jnp.float32)
    for quantize in (False, True):

        @functools.partial(jax.grad, argnums=(0, 1))
        def gradient(c: jax.Array, s: jax.Array, quantize: bool = quantize) -> jax.Array:
            return dark_jax.encode(c, size=(8, 8), sigma=s, quantize=quantize).sum()

        assert all(np.isfinite(g).all() for g in jax.jit(gradient)(coords, sigma))


def test_decode_of_encode_has_the_identity_as_jacobian() -> None:
    """Moving the keypoint moves the decoded one by as much."""
    jacobian = jax.jit(
        jax.jacobian(lambda c: dark_jax.decode(dark_jax.encode(c, size=(25, 24), sigma=2.0)).coords)
    )
    for point in ([11.3, 12.8], [12.0, 12.0]):
        np.testing.assert_allclose(jacobian(jnp.array(point)), np.eye(2), atol=5e-3)
