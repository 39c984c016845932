"""The expectation of a softmax, against its definition in float64."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import dark_jax
from dark_jax import Status
from tests.support import synthetic, tolerances


def expectation(heatmap: np.ndarray, temperature: float, radius: int | None = None) -> np.ndarray:
    weights = np.exp((heatmap.astype(np.float64) - heatmap.max()) / temperature)
    grid = np.indices(heatmap.shape)
    if radius is not None:
        peak = np.array(np.unravel_index(heatmap.argmax(), heatmap.shape))
        far = np.abs(grid - peak.reshape(-1, *[1] * heatmap.ndim)).max(axis=0) > radius
        weights[far] = 0
    return np.array([(weights * place).sum() for place in grid[::-1]]) / weights.sum()


@pytest.mark.parametrize("radius", [None, 1, 4, 30])
@pytest.mark.parametrize("temperature", [0.01, 0.1, 1.0])
def test_is_the_expectation(temperature: float, radius: int | None) -> None:
    """Borders, negative maps and a radius beyond the map included."""
    maps, _ = synthetic.gaussians(0, 24, (20, 17), sigma=2.0, noise=0.05, margin=0.0)
    maps[::2] -= 1.5
    found = dark_jax.decode_soft_argmax(maps, temperature=temperature, radius=radius)
    expected = [expectation(heatmap, temperature, radius) for heatmap in maps]
    np.testing.assert_allclose(found.coords, expected, rtol=0, atol=2e-5)
    np.testing.assert_array_equal(found.scores, maps.max((-2, -1)))


@pytest.mark.parametrize("axes", [(-3, -2), (-1,), (-3, -2, -1)], ids=str)
def test_any_layout_and_dimension(axes: tuple[int, ...]) -> None:
    values = synthetic.rng(0).random((3, 7, 8, 9)).astype(np.float32)
    found = dark_jax.decode_soft_argmax(values, temperature=0.2, axes=axes, radius=3)
    others = [axis for axis in range(4) if axis - 4 not in axes]
    for index in np.ndindex(*(values.shape[axis] for axis in others)):
        where = dict(zip(others, index, strict=True))
        one = values[tuple(where.get(axis, slice(None)) for axis in range(4))]
        np.testing.assert_allclose(found.coords[index], expectation(one, 0.2, 3), atol=2e-5)


def test_temperature_per_map_and_traced() -> None:
    maps, _ = synthetic.gaussians(1, 3, (12, 10), sigma=2.0)
    temperature = np.array([0.02, 0.1, 0.5], np.float32)
    found = jax.jit(lambda t: dark_jax.decode_soft_argmax(maps, temperature=t))(temperature)
    for heatmap, t, coords in zip(maps, temperature, found.coords, strict=True):
        np.testing.assert_allclose(coords, expectation(heatmap, t), atol=2e-5)


def test_status() -> None:
    maps = np.stack([*synthetic.gaussians(2, 5, (20, 20), sigma=1.0, margin=8.0)[0]])
    maps[1] -= 5
    maps[2, 0, 1], maps[3, 0, 1], maps[4, 0, 1] = np.nan, np.inf, -np.inf
    found = dark_jax.decode_soft_argmax(maps, temperature=0.1, radius=3)
    np.testing.assert_array_equal(
        found.status,
        [Status.REFINED, Status.NO_PEAK, Status.NOT_FINITE, Status.NOT_FINITE, Status.REFINED],
    )
    assert np.isnan(found.coords[2]).all()
    np.testing.assert_array_equal(found.coords[3], [1, 0])
    whole = dark_jax.decode_soft_argmax(maps, temperature=0.1)
    assert np.isfinite(np.delete(np.asarray(whole.coords), 2, axis=0)).all()
    wide = dark_jax.decode_soft_argmax(maps[0], temperature=0.1, radius=15)
    assert wide.status == Status.BORDER


@pytest.mark.parametrize("radius", [None, 3])
def test_gradient(radius: int | None) -> None:
    """Right by central differences, with respect to the map and the temperature."""

    @jax.jit
    @functools.partial(jax.value_and_grad, argnums=(0, 1))
    def both(m: jax.Array, t: jax.Array) -> jax.Array:
        coords = dark_jax.decode_soft_argmax(m, temperature=t, radius=radius).coords
        return coords @ jnp.array([1.0, 0.7])

    with jax.enable_x64(True):
        maps = jnp.asarray(synthetic.gaussians(3, 1, (12, 11), sigma=2.0)[0][0], jnp.float64)
        temperature, step = jnp.float64(0.2), 1e-6
        _, (by_map, by_temperature) = both(maps, temperature)
        nudge = jnp.asarray(synthetic.rng(4).standard_normal(maps.shape))
        slope = (
            both(maps + step * nudge, temperature)[0] - both(maps - step * nudge, temperature)[0]
        )
        np.testing.assert_allclose(
            (by_map * nudge).sum(), slope / (2 * step), rtol=tolerances.GRADIENT
        )
        slope = both(maps, temperature + step)[0] - both(maps, temperature - step)[0]
        np.testing.assert_allclose(
            by_temperature, slope / (2 * step), rtol=tolerances.GRADIENT, atol=1e-9
        )


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"temperature": 0.0}, ValueError, "temperature must be positive and finite, got 0"),
        ({"temperature": np.ones(3)}, ValueError, r"temperature must broadcast to \(2,\)"),
        ({"radius": 0}, ValueError, "radius must be an integer of at least 1, got 0"),
        ({"radius": 1.5}, TypeError, "radius must be an integer of at least 1, got 1.5"),
        ({"axes": (1, 0)}, ValueError, "axes must be in increasing order"),
    ],
)
def test_bad_arguments_are_named(
    arguments: dict[str, Any], error: type[Exception], message: str
) -> None:
    options: dict[str, Any] = {"temperature": 1.0} | arguments
    with pytest.raises(error, match=message):
        dark_jax.decode_soft_argmax(np.ones((2, 8, 8)), **options)
