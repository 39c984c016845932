"""The Newton step, on surfaces whose maximum is known by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import dark_jax


def quadratic(size: tuple[int, int], top: tuple[float, float], a: float, b: float, c: float):
    """-(a u^2 + 2 b u v + c v^2) / 2 with (u, v) from ``top`` (x, y)."""
    y, x = np.mgrid[: size[0], : size[1]]
    u, v = x - top[0], y - top[1]
    return (-(a * u * u + 2 * b * u * v + c * v * v) / 2).astype(np.float32)


@pytest.mark.parametrize("shape", [(1.0, 0.0, 1.0), (0.5, 0.2, 0.3), (2.0, -0.5, 0.25)])
def test_quadratic_is_solved_exactly(shape: tuple[float, float, float]) -> None:
    found = dark_jax.taylor(quadratic((12, 11), (5.25, 6.375), *shape), np.array([5, 6]))
    np.testing.assert_allclose(found, [5.25, 6.375], atol=2e-5)


def test_by_hand() -> None:
    """Dx = .5, dxx = -1, dy = -.25, dyy = -2, dxy = 0: the step is (.5, -.125)."""
    heatmap = np.zeros((7, 7), np.float32)
    heatmap[3, 4], heatmap[3, 2] = 0.5, -0.5
    heatmap[4, 3], heatmap[2, 3] = -0.25, 0.25
    heatmap[3, [1, 5]] = -2.0
    heatmap[[1, 5], 3] = -4.0
    np.testing.assert_allclose(dark_jax.taylor(heatmap, np.array([3, 3])), [3.5, 2.875])


@pytest.mark.parametrize("coord", [(1, 5), (5, 1), (9, 5), (5, 10), (-1, 5), (5, 1e9), (0, 0)])
def test_border_is_skipped(coord: tuple[float, float]) -> None:
    heatmap = quadratic((12, 11), (5.25, 6.375), 1, 0, 1)
    np.testing.assert_array_equal(dark_jax.taylor(heatmap, np.array(coord)), coord)


@pytest.mark.parametrize("coord", [(2, 2), (8, 9)])
def test_innermost_border_is_not(coord: tuple[int, int]) -> None:
    """1 < x < W - 2 and 1 < y < H - 2, as in the reference; the quadratic is solved from afar."""
    found = dark_jax.taylor(quadratic((12, 11), (5.25, 6.375), 1, 0, 1), np.array(coord))
    np.testing.assert_allclose(found, [5.25, 6.375], atol=2e-5)


@pytest.mark.parametrize("size", [(4, 9), (9, 4), (1, 1), (2, 3)])
def test_too_small_maps_are_all_border(size: tuple[int, int]) -> None:
    coord = [size[1] // 2, size[0] // 2]
    np.testing.assert_array_equal(dark_jax.taylor(np.ones(size), np.array(coord)), coord)


def test_singular_is_skipped() -> None:
    """A flat map, and a cylinder whose second derivative along y is zero."""
    cylinder = quadratic((9, 9), (4.25, 4), 1, 0, 0)
    for heatmap in (np.zeros((9, 9)), cylinder):
        np.testing.assert_array_equal(dark_jax.taylor(heatmap, np.array([4, 4])), [4, 4])


def test_exactly_singular_ridge_is_skipped() -> None:
    """Dxx = dyy = -dxy: equal products, which a fused multiply-add would not cancel."""
    low = np.float32(np.log(0.75))
    heatmap = np.full((5, 5), 2 * low, np.float32)
    heatmap[1:4, 1:4] = low
    heatmap[2:4, 2:4] = heatmap[2, 4] = heatmap[4, 2] = 0
    heatmap[2, 0] = heatmap[0, 2] = low
    np.testing.assert_array_equal(dark_jax.taylor(heatmap, np.array([2, 2])), [2, 2])


def test_the_step_has_no_bound() -> None:
    found = dark_jax.taylor(quadratic((9, 9), (1000.25, 4), 1, 0, 1), np.array([4, 4]))
    np.testing.assert_allclose(found, [1000.25, 4], atol=0.1)


def test_fractions_are_cut_off_the_pixel_but_not_off_the_result() -> None:
    """int(coord) chooses the pixel; the step is added to the coordinate itself."""
    heatmap = quadratic((12, 11), (5.25, 6.375), 1, 0, 1)
    found = dark_jax.taylor(heatmap, np.array([5.75, 6.5]))
    np.testing.assert_allclose(found, [5.75 + 0.25, 6.5 + 0.375], atol=2e-5)


@pytest.mark.parametrize("scale", [1e-30, 1e-15, 1e15, 1e30])
def test_scale_does_not_matter(scale: float) -> None:
    """The determinant of the raw second differences would under- or overflow."""
    heatmap = quadratic((12, 11), (5.25, 6.375), 1, 0.25, 1) * np.float32(scale)
    found = dark_jax.taylor(heatmap, np.array([5, 6]))
    np.testing.assert_allclose(found, [5.25, 6.375], atol=2e-5)


@pytest.mark.parametrize(
    ("heatmap", "coord", "result"),
    [
        ("float32", "int32", "float32"),
        ("float64", "int32", "float64"),
        ("float32", "float64", "float64"),
        ("uint8", "float16", "float32"),
    ],
)
def test_dtypes(heatmap: str, coord: str, result: str) -> None:
    with jax.enable_x64(True):
        found = dark_jax.taylor(np.ones((9, 9), heatmap), np.array([4, 4], coord))
    assert found.dtype == result


def test_nan_coordinate_stays() -> None:
    found = dark_jax.taylor(np.ones((9, 9)), np.array([np.nan, 4.0]))
    np.testing.assert_array_equal(found, [np.nan, 4])


@pytest.mark.parametrize("coord", [(4, 4), (0, 0)])
def test_gradient_is_finite(coord: tuple[int, int]) -> None:
    for heatmap in (np.zeros((9, 9), np.float32), quadratic((9, 9), (4.3, 4.1), 1, 0, 1)):
        gradient = jax.grad(lambda h: dark_jax.taylor(h, jnp.array(coord)).sum())(heatmap)
        assert np.isfinite(gradient).all()


@pytest.mark.parametrize(
    ("heatmap", "coord", "message"),
    [
        (np.ones((1, 9, 9)), np.zeros(2), r"heatmap must have shape \[H, W\], got \(1, 9, 9\)"),
        (np.ones((9, 9)), np.zeros(3), r"coord must have shape \[2\], got \(3,\)"),
        (np.ones((9, 9)), np.zeros((1, 2)), r"coord must have shape \[2\], got \(1, 2\)"),
    ],
)
def test_bad_shapes_are_named(heatmap: np.ndarray, coord: np.ndarray, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        dark_jax.taylor(heatmap, coord)
