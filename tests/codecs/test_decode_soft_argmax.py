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


SIZE = (12, 10)
TEMPERATURES = np.repeat(np.array([0.01, 0.1, 1.0], np.float32), 24)


@functools.partial(jax.jit, static_argnames="radius")
def decoded(maps: jax.Array, temperatures: jax.Array, *, radius: int | None) -> dark_jax.Keypoints:
    """Decode 72 maps, each with its own traced temperature."""
    return dark_jax.decode_soft_argmax(maps, temperature=temperatures, radius=radius)


@pytest.mark.parametrize("radius", [None, 1, 3, 12])
def test_is_the_expectation(radius: int | None) -> None:
    """This includes borders, negative maps, a radius beyond the map, and a temperature per map."""
    maps, _ = synthetic.gaussians(0, 24, SIZE, sigma=2.0, noise=0.05, margin=0.0)
    maps[::2] -= 1.5
    maps = np.tile(maps, (3, 1, 1))
    found = decoded(maps, TEMPERATURES, radius=radius)
    each = zip(maps, TEMPERATURES, strict=True)
    expected = [expectation(heatmap, float(t), radius) for heatmap, t in each]
    np.testing.assert_allclose(found.coords, expected, rtol=0, atol=2e-5)
    np.testing.assert_array_equal(found.scores, maps.max((-2, -1)))


def debiased(heatmap: np.ndarray, beta: float) -> np.ndarray:
    """IntegralRegressionHead(debias=True) of mmpose, in units of the map's sides, and in pixels."""
    sides = np.array(heatmap.shape[::-1])
    total = np.exp(heatmap.astype(np.float64)).sum()
    return total / (total - 1) * (expectation(heatmap, 1 / beta) / sides - 1 / (2 * total)) * sides


class TestDebias:
    @pytest.mark.parametrize("beta", [1.0, 10.0])
    def test_is_that_of_mmpose(self, beta: float) -> None:
        """The sum of exp(map) is that of the map without beta, from some 2 to 1e43."""
        maps, _ = synthetic.gaussians(0, 24, SIZE, sigma=2.0, noise=0.05, margin=0.0)
        maps *= np.repeat([1, 30, 98], 8).astype(np.float32)[:, None, None]
        maps[:8] -= 4.0
        found = dark_jax.decode_soft_argmax(maps, temperature=1 / beta, debias=True)
        expected = [debiased(heatmap, beta) for heatmap in maps]
        np.testing.assert_allclose(found.coords, expected, rtol=1e-5, atol=2e-5)
        assert np.abs(np.stack(expected) - [expectation(m, 1 / beta) for m in maps]).max() > 0.5

    def test_uniform_maps_have_no_position(self) -> None:
        """The expectation, the middle of the map, moves by the half pixel of the formula."""
        maps = np.zeros((1, *SIZE), np.float32)
        found = dark_jax.decode_soft_argmax(maps, temperature=1.0, debias=True)
        np.testing.assert_allclose(found.coords, [debiased(maps[0], 1.0)], atol=1e-4)

    def test_a_sum_of_at_most_one_undoes_nothing(self) -> None:
        """The formula would divide by zero, or turn the sign."""
        maps, _ = synthetic.gaussians(0, 3, SIZE, sigma=2.0)
        maps -= 20
        maps[2] = -np.log(np.float32(120))
        found = dark_jax.decode_soft_argmax(maps, temperature=0.1, debias=True)
        plain = dark_jax.decode_soft_argmax(maps, temperature=0.1)
        np.testing.assert_array_equal(found.coords[:2], plain.coords[:2])
        assert np.isfinite(found.coords).all()
        assert (np.asarray(found.status) == Status.NO_PEAK).all()

    def test_a_place_outside_the_map_says_so(self) -> None:
        """The sum is just above 1, and the formula divides by what it is above."""
        maps = np.full((3, *SIZE), -100.0, np.float32)
        maps[:, 1, 2] = 1e-3
        found = dark_jax.decode_soft_argmax(maps, temperature=1.0, debias=True)
        assert (np.asarray(found.coords) < -100).all()
        assert (np.asarray(found.status) == Status.STEP_TOO_LONG).all()

    def test_gradients_are_finite(self) -> None:
        maps, _ = synthetic.gaussians(0, 3, SIZE, sigma=2.0)
        maps *= np.array([1, 200, -300], np.float32)[:, None, None]

        def total(values: jax.Array) -> jax.Array:
            found = dark_jax.decode_soft_argmax(values, temperature=1.0, debias=True)
            return found.coords.sum()

        assert np.isfinite(jax.grad(total)(jnp.asarray(maps))).all()

    def test_is_for_whole_maps(self) -> None:
        with pytest.raises(ValueError, match=r"debias must be False with a radius: .* radius=3"):
            dark_jax.decode_soft_argmax(np.ones(SIZE), temperature=1.0, radius=3, debias=True)


def test_the_centroid_of_a_map_is_that_of_its_logarithm() -> None:
    """ADNet and STAR take the centroid of maps that a ReLU or softmax has made."""
    maps, _ = synthetic.gaussians(0, 24, SIZE, sigma=2.0, noise=0.02, margin=0.0)
    maps = np.maximum(maps, 0)
    found = dark_jax.decode_soft_argmax(jnp.log(maps), temperature=1.0)
    grid, weights = np.indices(SIZE)[::-1], maps.astype(np.float64)
    expected = [[(m * place).sum() / m.sum() for place in grid] for m in weights]
    np.testing.assert_allclose(found.coords, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("axes", [(-3, -2), (-1,), (-3, -2, -1)], ids=str)
def test_any_layout_and_dimension(axes: tuple[int, ...]) -> None:
    values = synthetic.rng(0).random((3, 7, 8, 9)).astype(np.float32)
    found = dark_jax.decode_soft_argmax(values, temperature=0.2, axes=axes, radius=2)
    coords = np.asarray(found.coords)
    others = [axis for axis in range(4) if axis - 4 not in axes]
    for index in np.ndindex(*(values.shape[axis] for axis in others)):
        where = dict(zip(others, index, strict=True))
        one = values[tuple(where.get(axis, slice(None)) for axis in range(4))]
        np.testing.assert_allclose(coords[index], expectation(one, 0.2, 2), atol=2e-5)


def test_status() -> None:
    maps, _ = synthetic.gaussians(2, 72, SIZE, sigma=1.0, margin=4.0)
    maps[1] -= 5
    maps[2, 0, 1], maps[3, 0, 1], maps[4, 0, 1] = np.nan, np.inf, -np.inf
    maps[5] = synthetic.draw(np.array([[2.2, 5.0]]), SIZE, sigma=1.0)[0]
    cold = np.full(72, 0.1, np.float32)
    found = decoded(maps, cold, radius=3)
    expected = [
        *[Status.REFINED, Status.NO_PEAK, Status.NOT_FINITE, Status.NOT_FINITE, Status.REFINED],
        Status.BORDER,
    ]
    np.testing.assert_array_equal(np.asarray(found.status)[:6], expected)
    coords = np.asarray(found.coords)
    assert np.isnan(coords[2]).all()
    np.testing.assert_array_equal(coords[3], [1, 0])
    whole = decoded(maps, cold, radius=None)
    assert np.isfinite(np.delete(np.asarray(whole.coords), 2, axis=0)).all()


@pytest.mark.parametrize("radius", [None, 3])
def test_gradient(radius: int | None) -> None:
    """Gradients with respect to the map and the temperature match central differences."""

    @jax.jit
    @functools.partial(jax.value_and_grad, argnums=(0, 1))
    def both(m: jax.Array, t: jax.Array) -> jax.Array:
        coords = dark_jax.decode_soft_argmax(m, temperature=t, radius=radius).coords
        return coords @ jnp.array([1.0, 0.7])

    heatmap = synthetic.gaussians(3, 1, (12, 11), sigma=2.0)[0][0].astype(np.float64)
    nudge = synthetic.rng(4).standard_normal(heatmap.shape)
    temperature, step = np.float64(0.2), 1e-6

    def value(m: np.ndarray, t: np.float64) -> float:
        return float(both(m, t)[0])

    with jax.enable_x64(True):
        by_map, by_temperature = map(np.asarray, both(heatmap, temperature)[1])
        slope = value(heatmap + step * nudge, temperature)
        slope -= value(heatmap - step * nudge, temperature)
        np.testing.assert_allclose(
            (by_map * nudge).sum(), slope / (2 * step), rtol=tolerances.GRADIENT
        )
        slope = value(heatmap, temperature + step) - value(heatmap, temperature - step)
        np.testing.assert_allclose(
            by_temperature, slope / (2 * step), rtol=tolerances.GRADIENT, atol=1e-9
        )


@pytest.mark.parametrize("radius", [None, 3])
def test_any_temperature_that_is_traced(radius: int | None) -> None:
    """The lowest temperatures give the peak, and so do invalid ones, which set the status.

    All derivatives are finite.
    """

    @jax.jit
    def decode(t: jax.Array) -> tuple[dark_jax.Keypoints, tuple[jax.Array, ...]]:
        def coords(m: jax.Array, t: jax.Array) -> tuple[jax.Array, dark_jax.Keypoints]:
            found = dark_jax.decode_soft_argmax(m, temperature=t, radius=radius)
            return found.coords.sum(), found

        slope = jax.grad(coords, argnums=(0, 1), has_aux=True)
        (slopes, found), (second, _) = jax.jvp(slope, (heatmap, t), (heatmap, jnp.ones_like(t)))
        ahead = jax.jvp(lambda t: coords(heatmap, t)[0], (t,), (jnp.ones_like(t),))[1]
        return found, (*slopes, *second, ahead)

    heatmap = jnp.asarray(
        synthetic.draw(np.array([[8.25, 9.0]]), (20, 18), sigma=1.5)[0], "float32"
    )
    for temperature in (1e-5, 1e-12, 1e-20, 1e-37, 1e-38):
        found, slopes = decode(jnp.float32(temperature))
        np.testing.assert_array_equal(found.coords, [8, 9])
        assert found.status == Status.REFINED
        assert all(np.isfinite(slope).all() for slope in slopes)
    for temperature in (0.0, -1.0, -1e-38, np.nan, np.inf):
        found, slopes = decode(jnp.float32(temperature))
        np.testing.assert_array_equal(found.coords, [8, 9])
        assert found.status == Status.NOT_FINITE
        assert all(np.isfinite(slope).all() for slope in slopes)


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
