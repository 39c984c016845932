"""The fit of a Gaussian of known width: against the Cramer-Rao bound, and at every border."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import dark_jax
from dark_jax import Status
from tests.support import synthetic, tolerances
from tests.support.cases import slow_but
from tests.support.synthetic import bound

SIZE = (64, 48)


@pytest.mark.parametrize("sigma", slow_but([1.0], [1.0, 1.5, 2.0, 3.0]))
def test_clean_maps_are_exact(sigma: float) -> None:
    """Interior and borders alike: no blob is missing pixels that a fit would need."""
    maps, points = synthetic.gaussians(0, 200, SIZE, sigma=sigma, margin=0.0)
    edges, on_edge = synthetic.border(1, SIZE, sigma=sigma)
    for values, truth in ((maps, points), (edges, on_edge)):
        found = dark_jax.decode_fit(values, sigma=sigma)
        np.testing.assert_allclose(found.coords, truth, rtol=0, atol=1e-5)
        np.testing.assert_array_equal(found.status, Status.REFINED)


@pytest.mark.parametrize("noise", slow_but([0.05], [0.005, 0.05, 0.1]))
@pytest.mark.parametrize("sigma", slow_but([1.0], [1.0, 1.5, 2.0, 3.0]))
def test_reaches_the_bound(sigma: float, noise: float) -> None:
    """RMS error within 3 % of the bound, bias within 5 %, and the sampling error of 3000 maps."""
    maps, points = synthetic.gaussians(2, 3000, SIZE, sigma=sigma, noise=noise, margin=8.0)
    error = np.asarray(dark_jax.decode_fit(maps, sigma=sigma).coords) - points
    sampling = 1 / np.sqrt(2 * error.size)
    assert np.sqrt((error**2).mean()) < (1.03 + 2 * sampling) * bound(noise)
    assert (np.abs(error.mean(axis=0)) < (0.05 + 3 / np.sqrt(len(maps))) * bound(noise)).all()


@pytest.mark.slow
@pytest.mark.parametrize("noise", [0.005, 0.1])
def test_reaches_the_bound_for_wide_blobs(noise: float) -> None:
    maps, points = synthetic.gaussians(3, 600, (256, 192), sigma=6.0, noise=noise, margin=20.0)
    error = np.asarray(dark_jax.decode_fit(maps, sigma=6.0).coords) - points
    sampling = 1 / np.sqrt(2 * error.size)
    assert np.sqrt((error**2).mean()) < (1.03 + 2 * sampling) * bound(noise)


@pytest.mark.parametrize(
    ("sigma", "mean"),
    slow_but([(1.0, 0.03)], [(1.0, 0.03), (2.0, 0.03), (3.0, 0.03), (6.0, 0.035)], unpack=True),
)
def test_noisy_borders(sigma: float, mean: float) -> None:
    maps, points = synthetic.border(4, SIZE, sigma=sigma)
    maps += 0.02 * synthetic.noise(5, len(maps), SIZE, zero_mean=True)
    error = np.asarray(dark_jax.decode_fit(maps, sigma=sigma).coords) - points
    assert np.linalg.norm(error, axis=-1).mean() < mean


@pytest.mark.slow
@pytest.mark.parametrize("noise", [0.2, 0.3])
def test_peak_after_the_blur(noise: float) -> None:
    """Where the raw maximum is lost in the noise the blurred one is not."""
    maps, points = synthetic.gaussians(6, 2000, SIZE, sigma=2.0, noise=noise, margin=8.0)
    blurred = np.asarray(dark_jax.decode_fit(maps, sigma=2.0, peak="blurred").coords) - points
    raw = np.asarray(dark_jax.decode_fit(maps, sigma=2.0).coords) - points
    assert np.sqrt((blurred**2).mean()) < 1.15 * bound(noise) < np.sqrt((raw**2).mean())


@pytest.mark.slow
def test_a_small_radius_sees_less_of_a_second_peak() -> None:
    maps, points = synthetic.second_peak(7, 300, SIZE, sigma=1.5, height=0.6, distance=4.0)
    errors = [
        np.linalg.norm(
            np.asarray(dark_jax.decode_fit(maps, sigma=1.5, radius=radius).coords) - points, axis=1
        ).mean()
        for radius in (1, 2, 4)
    ]
    assert errors[0] < 0.2
    assert errors == sorted(errors)


@pytest.mark.parametrize("scale", [255.0, 1e-3, 1e-25, 1e25])
def test_scale_free(scale: float) -> None:
    maps, _ = synthetic.gaussians(8, 50, SIZE, sigma=2.0, noise=0.02)
    plain = dark_jax.decode_fit(maps, sigma=2.0)
    scaled = dark_jax.decode_fit(maps * np.float32(scale), sigma=2.0)
    np.testing.assert_allclose(scaled.coords, plain.coords, rtol=0, atol=1e-5)
    np.testing.assert_array_equal(scaled.status, plain.status)


@pytest.mark.parametrize("fitted", [False, True])
def test_background(fitted: bool) -> None:
    """A floor, given or fitted, one for each map; logits' is negative."""
    maps, points = synthetic.gaussians(9, 30, SIZE, sigma=1.5)
    floors = np.linspace(-5, 2, 30).astype(np.float32)
    found = dark_jax.decode_fit(
        maps + floors[:, None, None], sigma=1.5, background=None if fitted else floors
    )
    risen = np.asarray(found.status) != Status.NO_PEAK
    assert risen.all() if not fitted else risen[floors > -0.7].all()
    np.testing.assert_allclose(found.coords[risen], points[risen], rtol=0, atol=2e-5)


def test_sigma_of_each_map_and_traced() -> None:
    sigmas = np.linspace(1, 3, 8).astype(np.float32)
    points = synthetic.centres(10, 8, SIZE, margin=3.0)
    maps = dark_jax.encode(points.astype(np.float32), size=SIZE, sigma=sigmas)
    fit = jax.jit(lambda m, s: dark_jax.decode_fit(m, sigma=s, radius=6))
    np.testing.assert_allclose(fit(maps, sigmas).coords, points, rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    "axes", slow_but([(-3, -2), (-1,)], [(-3, -2), (-1,), (-3, -2, -1)]), ids=str
)
def test_any_layout_and_dimension(axes: tuple[int, ...]) -> None:
    dim = len(axes)
    sides = (26, 28, 30)[:dim]
    sigma = (2.0, 1.5, 1.0)[:dim]
    points = synthetic.rng(11).uniform(4, 20, (5, dim)).astype(np.float32)
    maps = dark_jax.encode(points, size=sides, sigma=sigma, axes=axes)
    found = dark_jax.decode_fit(maps, sigma=sigma, axes=axes)
    np.testing.assert_allclose(found.coords, points, rtol=0, atol=1e-5)


def status_of(heatmap: np.ndarray, *, radius: int | None = None) -> Status:
    return Status(int(dark_jax.decode_fit(heatmap, sigma=2.0, radius=radius).status))


def test_every_status() -> None:
    cases = synthetic.degenerate(SIZE)
    assert status_of(cases["spike"]) is Status.REFINED
    for name in ("zero", "negative", "negative constant"):
        assert status_of(cases[name]) is Status.NO_PEAK
    for name in ("all nan", "one nan far", "one inf far", "all -inf", "one -inf at the peak"):
        assert status_of(cases[name]) is Status.NOT_FINITE
    # A blob whose top is well outside the map, a ramp, and one pixel on a deep floor.
    off = synthetic.draw(np.array([[-4.0, 30.0]]), SIZE, sigma=2.0)[0].astype(np.float32)
    assert status_of(off) is Status.BORDER
    ramp = np.tile(np.linspace(0, 1, SIZE[1], dtype=np.float32), (SIZE[0], 1))
    assert status_of(ramp, radius=5) is not Status.REFINED
    pit = np.full(SIZE, -1.0, np.float32)
    pit[20, 20] = 0.1
    assert status_of(pit) is Status.NOT_CONCAVE


@jax.jit
@jax.grad
def fit_gradient(heatmap: jax.Array) -> jax.Array:
    return dark_jax.decode_fit(heatmap, sigma=2.0).coords.sum()


@pytest.mark.parametrize("name", synthetic.degenerate(SIZE))
def test_degenerate(name: str) -> None:
    """Unrefined is the integer peak; NaN only with a NaN; finite gradients of finite maps."""
    heatmap = synthetic.degenerate(SIZE)[name]
    found = dark_jax.decode_fit(heatmap, sigma=2.0)
    assert np.isnan(found.coords).all() == np.isnan(heatmap).any()
    if found.status != Status.REFINED and not np.isnan(heatmap).any():
        peak = np.unravel_index(heatmap.argmax(), heatmap.shape)
        np.testing.assert_array_equal(found.coords, peak[::-1])
    if np.isfinite(heatmap).all():
        for scale in (1.0, 1e-25):
            assert np.isfinite(fit_gradient(heatmap * np.float32(scale))).all()


@pytest.mark.parametrize("sigma", slow_but([1.0], [1.0, 4.0]))
def test_noise_alone_is_bounded(sigma: float) -> None:
    """No step leaves the neighbourhood of the peak, and the longest are refused."""
    maps = synthetic.noise(12, 500, SIZE, zero_mean=False)
    found = dark_jax.decode_fit(maps, sigma=sigma)
    peaks = dark_jax.get_max_preds(maps[None])[0][0]
    moved = np.linalg.norm(np.asarray(found.coords - peaks), axis=-1)
    assert moved.max() < np.sqrt(2) * (np.ceil(sigma) + 3 * 0.7)
    assert (np.asarray(found.status) == Status.STEP_TOO_LONG).any()


def test_gradient() -> None:
    """Right by central differences, with respect to the map and the sigma."""
    with jax.enable_x64(True):
        heatmap = jnp.asarray(
            synthetic.gaussians(13, 1, (20, 18), sigma=1.5, noise=0.02)[0][0], jnp.float64
        )

        @jax.jit
        @functools.partial(jax.value_and_grad, argnums=(0, 1))
        def both(m: jax.Array, s: jax.Array) -> jax.Array:
            coords = dark_jax.decode_fit(m, sigma=s, radius=6).coords
            return coords @ jnp.array([1.0, 0.7])

        sigma, step = jnp.float64(1.6), 1e-6
        _, (by_map, by_sigma) = both(heatmap, sigma)
        nudge = jnp.asarray(synthetic.rng(14).standard_normal(heatmap.shape))
        slope = both(heatmap + step * nudge, sigma)[0] - both(heatmap - step * nudge, sigma)[0]
        expected = slope / (2 * step)
        np.testing.assert_allclose((by_map * nudge).sum(), expected, rtol=tolerances.GRADIENT)
        slope = both(heatmap, sigma + step)[0] - both(heatmap, sigma - step)[0]
        np.testing.assert_allclose(by_sigma, slope / (2 * step), rtol=tolerances.GRADIENT)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"sigma": 0.0}, ValueError, "sigma must be a positive, finite number, got 0"),
        ({"sigma": (1.0, 2.0, 3.0)}, ValueError, "sigma must be one number, or one for each of 2"),
        ({"sigma": np.ones(3), "radius": 3}, ValueError, r"sigma must broadcast to \(2,\)"),
        ({"radius": 0}, ValueError, "radius must be an integer of at least 1, got 0"),
        ({"background": np.nan}, ValueError, "background must be a number, got nan"),
        ({"background": np.ones(3)}, ValueError, r"background must broadcast to \(2,\)"),
        ({"peak": "smooth"}, ValueError, 'peak must be "raw" or "blurred", got \'smooth\''),
        ({"axes": (1, 0)}, ValueError, "axes must be in increasing order"),
    ],
)
def test_bad_arguments_are_named(
    arguments: dict[str, Any], error: type[Exception], message: str
) -> None:
    options: dict[str, Any] = {"sigma": 2.0} | arguments
    with pytest.raises(error, match=message):
        dark_jax.decode_fit(np.ones((2, 8, 8)), **options)


def test_sigma_that_sets_no_radius() -> None:
    """An estimate inside jit, or one of each joint: the window's size must come from elsewhere."""
    maps = np.ones((2, 8, 8), np.float32)
    for decode in (
        jax.jit(lambda m: dark_jax.decode_fit(m, sigma=dark_jax.estimate_sigma(m))),
        lambda m: dark_jax.decode_fit(m, sigma=np.ones(2)),
    ):
        with pytest.raises(TypeError, match="radius must be given where sigma is traced"):
            decode(maps)


def test_real_maps(openfield_heatmaps: np.ndarray) -> None:
    """No coordinate of a real network's map is lost, and none leaves the neighbourhood."""
    maps = openfield_heatmaps[:100]
    found = dark_jax.decode_fit(maps, sigma=1.5)
    single = dark_jax.decode(maps)
    assert np.isfinite(found.coords).all()
    assert np.abs(np.asarray(found.coords - single.coords)).max() < 4


@pytest.mark.parametrize("noise", slow_but([0.1], [0.01, 0.1]))
@pytest.mark.parametrize("sigma", slow_but([1.0], [1.0, 2.0, 3.0, 6.0]))
@pytest.mark.parametrize("border", [False, True])
def test_coverage(border: bool, sigma: float, noise: float) -> None:
    """The ellipses hold as many of 5000 errors as they should; nobody's guess of the noise."""
    if border:
        parts = [synthetic.border(seed, SIZE, sigma=sigma) for seed in range(8)]
        maps, points = (np.concatenate(values) for values in zip(*parts, strict=True))
        maps += np.float32(noise) * synthetic.noise(20, len(maps), SIZE, zero_mean=True)
    else:
        maps, points = synthetic.gaussians(21, 5000, SIZE, sigma=sigma, noise=noise, margin=8.0)
    found = dark_jax.decode_fit(maps, sigma=sigma)
    fitted = np.asarray(found.status) == Status.REFINED
    assert fitted.mean() > 0.998
    squared, known = synthetic.squared_deviations(found, points)
    np.testing.assert_array_equal(known, fitted)
    assert abs((squared < 1).mean() - 0.393) < 0.03
    assert abs((squared < 4).mean() - 0.865) < 0.03
    assert abs(squared.mean() - 2) < 0.2


@pytest.mark.slow
def test_covariance_of_what_is_no_blob() -> None:
    """Large where another blob or nothing is in the window; infinite where nothing was fitted."""
    clean, _ = synthetic.gaussians(22, 20, SIZE, sigma=2.0, noise=0.02, margin=10.0)
    two, _ = synthetic.second_peak(23, 20, SIZE, sigma=2.0, height=0.6, distance=5.0)
    flat = np.full((1, *SIZE), 0.7, np.float32)

    def deviation(maps: np.ndarray) -> np.ndarray:
        found = dark_jax.decode_fit(maps, sigma=2.0).covariance
        return np.sqrt(np.trace(found, axis1=-2, axis2=-1))

    assert deviation(clean).max() < 0.05
    assert deviation(two).min() > 0.1
    assert deviation(flat).min() > 0.3
    assert np.isinf(dark_jax.decode_fit(-flat, sigma=2.0).covariance).all()
    assert np.isinf(dark_jax.decode(clean).covariance).all()


@pytest.mark.slow
def test_covariance_is_differentiable() -> None:
    with jax.enable_x64(True):
        heatmap = synthetic.gaussians(24, 1, (20, 18), sigma=1.5, noise=0.05)[0][0]
        heatmap = jnp.asarray(heatmap, jnp.float64)
        nudge = jnp.asarray(synthetic.rng(25).standard_normal(heatmap.shape))

        def loss(m: jax.Array) -> jax.Array:
            return jnp.log(dark_jax.decode_fit(m, sigma=1.5).covariance[0, 0])

        slope = (loss(heatmap + 1e-6 * nudge) - loss(heatmap - 1e-6 * nudge)) / 2e-6
        found = (jax.grad(loss)(heatmap) * nudge).sum()
        np.testing.assert_allclose(found, slope, rtol=tolerances.GRADIENT)
    for name, heatmap in synthetic.degenerate(SIZE).items():
        if np.isfinite(heatmap).all():
            gradient = jax.grad(
                lambda m: jnp.nan_to_num(
                    dark_jax.decode_fit(m, sigma=2.0).covariance, posinf=0.0
                ).sum()
            )(jnp.asarray(heatmap))
            assert np.isfinite(gradient).all(), name
