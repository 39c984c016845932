"""The fit of a Gaussian of known width, against the Cramer-Rao bound and at every border."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import dark_jax
from dark_jax import Status
from tests.support import oracle, synthetic, tolerances
from tests.support.batches import in_batches
from tests.support.by_hand import covariance_of
from tests.support.cases import slow_but
from tests.support.synthetic import bound

SIZE = (64, 48)
BATCH = 200


def fitted(maps: Any, *, sigma: float, **options: Any) -> dark_jax.Keypoints:
    """Fit in batches of one size, so that widths with the same window share one program."""
    fit = functools.partial(dark_jax.decode_fit, sigma=sigma, **options)
    return in_batches(fit, maps, size=BATCH)


@pytest.mark.parametrize("sigma", slow_but([1.0], [1.0, 1.5, 2.0, 3.0]))
def test_clean_maps_are_exact(sigma: float) -> None:
    """The fit is exact in the interior and at borders, where enough pixels of each blob remain."""
    maps, points = synthetic.gaussians(0, 200, SIZE, sigma=sigma, margin=0.0)
    edges, on_edge = synthetic.border(1, SIZE, sigma=sigma)
    found = fitted(np.concatenate([maps, edges]), sigma=sigma)
    np.testing.assert_allclose(found.coords, np.concatenate([points, on_edge]), rtol=0, atol=1e-5)
    np.testing.assert_array_equal(found.status, Status.REFINED)


BOUND_CASES = [
    *[(1.0, 0.005), (1.0, 0.05), (1.0, 0.1), (1.5, 0.05), (2.0, 0.005), (2.0, 0.1)],
    *[(3.0, 0.005), (3.0, 0.1), (6.0, 0.005), (6.0, 0.1)],
]


@pytest.mark.parametrize(("sigma", "noise"), slow_but([(1.0, 0.05)], BOUND_CASES, unpack=True))
def test_reaches_the_bound(sigma: float, noise: float) -> None:
    """The RMS error is within 3 % of the bound and the bias within 5 %.

    Both limits allow for the sampling error of 3000 maps.
    """
    margin = 20.0 if sigma > 3 else 8.0
    maps, points = synthetic.gaussians(2, 3000, SIZE, sigma=sigma, noise=noise, margin=margin)
    error = np.asarray(fitted(maps, sigma=sigma).coords) - points
    sampling = 1 / np.sqrt(2 * error.size)
    assert np.sqrt((error**2).mean()) < (1.03 + 2 * sampling) * bound(noise)
    assert (np.abs(error.mean(axis=0)) < (0.05 + 3 / np.sqrt(len(maps))) * bound(noise)).all()


# Sigma, radius and the largest mean error in pixels. At sigma 6 the default radius is 12.
NOISY_BORDERS = [
    *[(1.0, None, 0.03), (2.0, None, 0.03), (3.0, None, 0.03)],
    *[(6.0, 15, 0.035), (6.0, None, 0.036)],
]


@pytest.mark.parametrize(
    ("sigma", "radius", "mean"), slow_but(NOISY_BORDERS[:1], NOISY_BORDERS, unpack=True)
)
def test_noisy_borders(sigma: float, radius: int | None, mean: float) -> None:
    maps, points = synthetic.border(4, SIZE, sigma=sigma)
    maps += 0.02 * synthetic.noise(5, len(maps), SIZE, zero_mean=True)
    error = np.asarray(fitted(maps, sigma=sigma, radius=radius).coords) - points
    assert np.linalg.norm(error, axis=-1).mean() < mean


@pytest.mark.slow
@pytest.mark.parametrize("noise", [0.2, 0.3])
def test_peak_after_the_blur(noise: float) -> None:
    """The blurred maximum survives noise in which the raw maximum is lost."""
    maps, points = synthetic.gaussians(6, 2000, SIZE, sigma=2.0, noise=noise, margin=8.0)
    blurred = np.asarray(fitted(maps, sigma=2.0, from_blurred=True).coords) - points
    raw = np.asarray(fitted(maps, sigma=2.0).coords) - points
    assert np.sqrt((blurred**2).mean()) < 1.15 * bound(noise) < np.sqrt((raw**2).mean())


@pytest.mark.slow
def test_a_small_radius_sees_less_of_a_second_peak() -> None:
    maps, points = synthetic.second_peak(7, 300, SIZE, sigma=1.5, height=0.6, distance=4.0)
    errors = [
        np.linalg.norm(fitted(maps, sigma=1.5, radius=radius).coords - points, axis=1).mean()
        for radius in (1, 2, 4)
    ]
    assert errors[0] < 0.2
    assert errors == sorted(errors)


@pytest.mark.parametrize("scale", [255.0, 1e-3, 1e-25, 1e25])
def test_scale_free(scale: float) -> None:
    maps, _ = synthetic.gaussians(8, 50, SIZE, sigma=1.0, noise=0.02)
    plain = fitted(maps, sigma=1.0)
    scaled = fitted(maps * np.float32(scale), sigma=1.0)
    np.testing.assert_allclose(scaled.coords, plain.coords, rtol=0, atol=1e-5)
    np.testing.assert_array_equal(scaled.status, plain.status)


FLOORS = np.linspace(-5, 2, 30).astype(np.float32)


def test_sigma_and_background_of_each_map_and_traced() -> None:
    """The background is zero, or one value for each map, which is negative for logits."""
    sigmas = np.linspace(1, 3, 30).astype(np.float32)
    points = synthetic.centres(10, 30, SIZE, margin=3.0)
    blobs = zip(points, sigmas, strict=True)
    maps = np.stack([synthetic.draw(p[None], SIZE, sigma=float(s))[0] for p, s in blobs])
    maps = maps.astype(np.float32)
    fit = jax.jit(lambda m, s, b: dark_jax.decode_fit(m, sigma=s, background=b, radius=6))
    for floors, atol in ((0 * FLOORS, 1e-5), (FLOORS, 2e-5)):
        found = fit(maps + floors[:, None, None], sigmas[:, None], floors)
        assert (np.asarray(found.status) != Status.NO_PEAK).all()
        np.testing.assert_allclose(found.coords, points, rtol=0, atol=atol)


def test_fitted_background() -> None:
    maps, points = synthetic.gaussians(9, 30, SIZE, sigma=1.5)
    found = dark_jax.decode_fit(maps + FLOORS[:, None, None], sigma=1.5, background=None)
    risen = np.asarray(found.status) != Status.NO_PEAK
    assert risen[FLOORS > -0.7].all()
    np.testing.assert_allclose(np.asarray(found.coords)[risen], points[risen], rtol=0, atol=2e-5)


@pytest.mark.parametrize(
    "axes", slow_but([(-3, -2), (-1,)], [(-3, -2), (-1,), (-3, -2, -1)]), ids=str
)
def test_any_layout_and_dimension(axes: tuple[int, ...]) -> None:
    dim = len(axes)
    sides = (26, 28, 30)[:dim]
    sigma = (2.0, 1.5, 1.0)[:dim]
    points = synthetic.rng(11).uniform(4, 20, (5, dim)).astype(np.float32)
    pixels = np.moveaxis(np.indices(sides)[::-1], 0, -1)
    away = (pixels - points.reshape(5, *[1] * dim, dim)) / sigma
    maps = np.exp(-0.5 * (away**2).sum(axis=-1)).astype(np.float32)
    maps = np.moveaxis(maps, 0, -1) if axes[-1] != -1 else maps
    found = dark_jax.decode_fit(maps, sigma=sigma, axes=axes)
    np.testing.assert_allclose(found.coords, points, rtol=0, atol=1e-5)


def odd_maps() -> dict[str, np.ndarray]:
    """The maps that break decoders, and three more that no blob fits.

    These are a blob whose top is well outside the map, a ramp, and one pixel on a deep floor.
    """
    cases = synthetic.degenerate(SIZE)
    cases["off"] = synthetic.draw(np.array([[-4.0, 30.0]]), SIZE, sigma=2.0)[0].astype(np.float32)
    cases["ramp"] = np.tile(np.linspace(0, 1, SIZE[1], dtype=np.float32), (SIZE[0], 1))
    cases["pit"] = np.full(SIZE, -1.0, np.float32)
    cases["pit"][20, 20] = 0.1
    return cases


ODD_MAPS = odd_maps()
ODD = np.stack(list(ODD_MAPS.values()))
FINITE = np.array([np.isfinite(heatmap).all() for heatmap in ODD])


@jax.jit
@functools.partial(jax.grad, has_aux=True)
def gradient_and_fit(maps: jax.Array) -> tuple[jax.Array, dark_jax.Keypoints]:
    found = dark_jax.decode_fit(maps, sigma=2.0)
    return found.coords.sum(), found


def test_every_status() -> None:
    found = np.asarray(gradient_and_fit(ODD)[1].status)
    status = {name: Status(int(code)) for name, code in zip(ODD_MAPS, found, strict=True)}
    assert status["spike"] is Status.REFINED
    for name in ("zero", "negative", "negative constant"):
        assert status[name] is Status.NO_PEAK
    for name in ("all nan", "one nan far", "one inf far", "all -inf", "one -inf at the peak"):
        assert status[name] is Status.NOT_FINITE
    assert status["off"] is Status.BORDER
    assert status["ramp"] is not Status.REFINED
    assert status["pit"] is Status.NOT_CONCAVE


def test_odd_maps() -> None:
    """Unrefined coordinates are the integer peak. They are NaN only with a NaN in the map.

    Gradients of finite maps are finite.
    """
    gradient, found = jax.tree.map(np.asarray, gradient_and_fit(ODD))
    for (name, heatmap), coords, status in zip(
        ODD_MAPS.items(), found.coords, found.status, strict=True
    ):
        assert (np.isnan(coords) == np.isnan(heatmap).any()).all(), name
        if status != Status.REFINED and not np.isnan(heatmap).any():
            np.testing.assert_array_equal(coords, oracle.middle(heatmap), name)
    tiny = np.asarray(gradient_and_fit(ODD * np.float32(1e-25))[0])
    for values in (gradient, tiny):
        for name, finite, slopes in zip(ODD_MAPS, FINITE, values, strict=True):
            assert not finite or np.isfinite(slopes).all(), name


@pytest.mark.parametrize("sigma", slow_but([1.0], [1.0, 6.0]))
def test_noise_alone_is_bounded(sigma: float) -> None:
    """No step leaves the neighbourhood of the peak, and the longest are refused."""
    maps = synthetic.noise(12, 500, SIZE, zero_mean=False)
    found = fitted(maps, sigma=sigma)
    y, x = np.unravel_index(maps.reshape(len(maps), -1).argmax(axis=1), SIZE)
    moved = np.linalg.norm(found.coords - np.stack([x, y], axis=-1), axis=-1)
    assert moved.max() < np.sqrt(2) * (np.ceil(sigma) + 3 * 0.7)
    assert (np.asarray(found.status) == Status.STEP_TOO_LONG).any()


@pytest.mark.parametrize("sigma", [0.0, -2.0, np.nan, np.inf, 1e-38, 1e-3, 1e30])
def test_any_sigma_that_is_traced(sigma: float) -> None:
    """A sigma that cannot be fitted leaves the start and sets the status. Gradients are finite."""

    def coords(m: jax.Array, s: jax.Array) -> tuple[jax.Array, dark_jax.Keypoints]:
        found = dark_jax.decode_fit(m, sigma=s, radius=6)
        return found.coords.sum(), found

    heatmap = synthetic.draw(np.array([[8.25, 9.0]]), (20, 18), sigma=1.5)[0].astype(np.float32)
    both = jax.jit(jax.grad(coords, argnums=(0, 1), has_aux=True))
    slopes, found = both(heatmap, jnp.float32(sigma))
    np.testing.assert_array_equal(found.coords, [8, 9])
    positive = 0 < sigma < np.inf
    assert found.status == (Status.NOT_CONCAVE if positive else Status.NOT_FINITE)
    assert all(np.isfinite(slope).all() for slope in slopes)


def test_gradient() -> None:
    """Gradients with respect to the map and the sigma match central differences."""

    @jax.jit
    @functools.partial(jax.value_and_grad, argnums=(0, 1))
    def both(m: jax.Array, s: jax.Array) -> jax.Array:
        coords = dark_jax.decode_fit(m, sigma=s, radius=6).coords
        return coords @ jnp.array([1.0, 0.7])

    heatmap = synthetic.gaussians(13, 1, (20, 18), sigma=1.5, noise=0.02)[0][0].astype(np.float64)
    nudge = synthetic.rng(14).standard_normal(heatmap.shape)
    sigma, step = np.float64(1.6), 1e-6

    def value(m: np.ndarray, s: np.float64) -> float:
        return float(both(m, s)[0])

    with jax.enable_x64(True):
        by_map, by_sigma = map(np.asarray, both(heatmap, sigma)[1])
        slope = value(heatmap + step * nudge, sigma) - value(heatmap - step * nudge, sigma)
        expected = slope / (2 * step)
        np.testing.assert_allclose((by_map * nudge).sum(), expected, rtol=tolerances.GRADIENT)
        slope = value(heatmap, sigma + step) - value(heatmap, sigma - step)
        np.testing.assert_allclose(by_sigma, slope / (2 * step), rtol=tolerances.GRADIENT)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"sigma": 0.0}, ValueError, "sigma must be a positive, finite number, got 0"),
        ({"sigma": (1.0, 2.0, 3.0)}, ValueError, r"sigma must broadcast to \(2, 2\), got shape"),
        (
            {"sigma": np.ones(3), "radius": 3},
            ValueError,
            r"axes, or, for joints, sigma\[\.\.\., None\]",
        ),
        (
            {"sigma": [[1.0], [2.0]], "from_blurred": True},
            ValueError,
            "sigma must be the same for all maps with from_blurred=True",
        ),
        ({"radius": 0}, ValueError, "radius must be an integer of at least 1, got 0"),
        ({"background": np.nan}, ValueError, "background must be a number, got nan"),
        ({"background": np.ones(3)}, ValueError, r"background must broadcast to \(2,\)"),
        ({"from_blurred": "raw"}, TypeError, "from_blurred must be True or False, got 'raw'"),
        ({"axes": (1, 0)}, ValueError, "axes must be in increasing order"),
    ],
)
def test_bad_arguments_are_named(
    arguments: dict[str, Any], error: type[Exception], message: str
) -> None:
    options: dict[str, Any] = {"sigma": 2.0} | arguments
    with pytest.raises(error, match=message):
        dark_jax.decode_fit(np.ones((2, 8, 8)), **options)


def test_a_traced_sigma_sets_no_radius() -> None:
    """A traced sigma cannot set the size of the window or of the blur."""
    maps = np.ones((2, 8, 8), np.float32)
    for options in ({}, {"radius": 5, "from_blurred": True}):
        fit = jax.jit(functools.partial(dark_jax.decode_fit, maps, **options))
        with pytest.raises(TypeError, match="sigma must not be traced without a radius, or with"):
            fit(sigma=np.float32(2))


def test_a_sigma_bound_before_jit_is_not_traced() -> None:
    """A JAX array, such as an estimated sigma, sets the radius and the blur."""
    maps, points = synthetic.gaussians(16, 4, SIZE, sigma=2.0, margin=8.0)
    one, each = jnp.float32(2), jnp.full((4, 1), 2.0)
    for sigma, options in ((one, {}), (each, {}), (each, {"from_blurred": True})):
        fit = functools.partial(dark_jax.decode_fit, sigma=sigma, **options)
        found = jax.jit(fit)(maps)
        np.testing.assert_allclose(found.coords, points, rtol=0, atol=1e-5)


@pytest.mark.parametrize("kind", slow_but([np.array], [list, tuple, np.array, jnp.array]))
def test_sigma_broadcasts_as_numpy_s_operands_do(kind: Callable[[Any], Any]) -> None:
    """Sigmas of axes, joints or both broadcast to the coordinates. The largest sets the radius."""
    points = synthetic.centres(15, 6, SIZE, margin=12.0).astype(np.float32).reshape(2, 3, 2)
    for sigma in ([1.0, 2.0], [[1.0], [2.0], [3.0]], [[[1.0, 2.0]], [[3.0, 1.5]]]):
        maps = dark_jax.encode(points, size=SIZE, sigma=sigma)
        found = dark_jax.decode_fit(maps, sigma=kind(sigma))
        assert found.refined.all()
        np.testing.assert_allclose(found.coords, points, rtol=0, atol=1e-5)
        traced = jax.jit(lambda m, s: dark_jax.decode_fit(m, sigma=s, radius=8))
        np.testing.assert_allclose(traced(maps, kind(sigma)).coords, points, rtol=0, atol=1e-5)
    lifted = jax.vmap(lambda m, s: dark_jax.decode_fit(m, sigma=s, radius=8))
    each = jnp.asarray([[[1.0, 2.0]], [[3.0, 1.5]]])
    np.testing.assert_allclose(lifted(maps, each).coords, points, rtol=0, atol=1e-5)


def test_real_maps(openfield_heatmaps: np.ndarray) -> None:
    """On maps of a real network no coordinate is lost, and none leaves the neighbourhood."""
    maps = openfield_heatmaps[:100]
    found = dark_jax.decode_fit(maps, sigma=1.5)
    single = dark_jax.decode(maps)
    assert np.isfinite(found.coords).all()
    assert np.abs(np.asarray(found.coords - single.coords)).max() < 4


COVERAGE_CASES = [
    *[(False, 1.0, 0.1), (True, 1.0, 0.1), (True, 1.0, 0.01)],
    *[(False, 2.0, 0.01), (True, 2.0, 0.1), (False, 3.0, 0.1), (True, 3.0, 0.01)],
    *[(False, 6.0, 0.01), (True, 6.0, 0.1)],
]


@pytest.mark.parametrize(
    ("border", "sigma", "noise"),
    slow_but([(False, 1.0, 0.1), (True, 1.0, 0.1)], COVERAGE_CASES, unpack=True),
)
def test_coverage(border: bool, sigma: float, noise: float) -> None:
    """The ellipses hold as many of 5000 errors as they should. The noise level is not an input."""
    if border:
        parts = [synthetic.border(seed, SIZE, sigma=sigma) for seed in range(8)]
        maps, points = (np.concatenate(values) for values in zip(*parts, strict=True))
        maps += np.float32(noise) * synthetic.noise(20, len(maps), SIZE, zero_mean=True)
    else:
        maps, points = synthetic.gaussians(21, 5000, SIZE, sigma=sigma, noise=noise, margin=8.0)
    found = fitted(maps, sigma=sigma)
    refined = np.asarray(found.status) == Status.REFINED
    assert refined.mean() > 0.998
    squared, known = synthetic.squared_deviations(found, points)
    np.testing.assert_array_equal(known, refined)
    assert abs((squared < 1).mean() - 0.393) < 0.03
    assert abs((squared < 4).mean() - 0.865) < 0.03
    assert abs(squared.mean() - 2) < 0.2


@pytest.mark.slow
def test_covariance_of_what_is_no_blob() -> None:
    """The covariance is large with a second blob or without one, and infinite without a fit."""
    clean, _ = synthetic.gaussians(22, 20, SIZE, sigma=2.0, noise=0.02, margin=10.0)
    two, _ = synthetic.second_peak(23, 20, SIZE, sigma=2.0, height=0.6, distance=5.0)
    flat = np.full((1, *SIZE), 0.7, np.float32)

    def deviation(maps: np.ndarray) -> np.ndarray:
        found = covariance_of(fitted(maps, sigma=2.0))
        return np.sqrt(np.trace(found, axis1=-2, axis2=-1))

    assert deviation(clean).max() < 0.05
    assert deviation(two).min() > 0.1
    assert deviation(flat).min() > 0.3
    assert np.isinf(covariance_of(fitted(-flat, sigma=2.0))).all()


@pytest.mark.slow
def test_covariance_is_differentiable() -> None:
    heatmap = synthetic.gaussians(24, 1, (20, 18), sigma=1.5, noise=0.05)[0][0].astype(np.float64)
    nudge = synthetic.rng(25).standard_normal(heatmap.shape)

    @jax.jit
    @jax.value_and_grad
    def loss(m: jax.Array) -> jax.Array:
        return jnp.log(covariance_of(dark_jax.decode_fit(m, sigma=1.5))[0, 0])

    with jax.enable_x64(True):
        higher, lower = (float(loss(heatmap + s * nudge)[0]) for s in (1e-6, -1e-6))
        found = (np.asarray(loss(heatmap)[1]) * nudge).sum()
    np.testing.assert_allclose(found, (higher - lower) / 2e-6, rtol=tolerances.GRADIENT)

    @jax.jit
    @jax.grad
    def gradient(maps: jax.Array) -> jax.Array:
        covariance = covariance_of(dark_jax.decode_fit(maps, sigma=2.0))
        return jnp.nan_to_num(covariance, posinf=0.0).sum()

    assert np.isfinite(gradient(ODD[FINITE])).all()
