"""The Newton step, on surfaces whose maximum is known by hand."""

import jax
import numpy as np
import pytest

import dark_jax

SIZE = (12, 11)
TOP = (5.25, 6.375)


def quadratic(a: float, b: float, c: float, top: tuple[float, float] = TOP) -> np.ndarray:
    """-(a u^2 + 2 b u v + c v^2) / 2 where (u, v) is the offset from ``top`` (x, y)."""
    y, x = np.mgrid[: SIZE[0], : SIZE[1]]
    u, v = x - top[0], y - top[1]
    return (-(a * u * u + 2 * b * u * v + c * v * v) / 2).astype(np.float32)


def taylor(heatmap: np.ndarray, coord: tuple[float, float]) -> np.ndarray:
    """Step on a map of ``SIZE`` from a float32 coordinate: one program for nearly every test."""
    assert heatmap.shape == SIZE
    return np.asarray(dark_jax.taylor(heatmap.astype(np.float32), np.array(coord, np.float32)))


@pytest.mark.parametrize("shape", [(1.0, 0.0, 1.0), (0.5, 0.2, 0.3), (2.0, -0.5, 0.25)])
def test_quadratic_is_solved_exactly(shape: tuple[float, float, float]) -> None:
    np.testing.assert_allclose(taylor(quadratic(*shape), (5, 6)), TOP, atol=2e-5)


def test_by_hand() -> None:
    """Dx = 0.5, dxx = -1, dy = -0.25, dyy = -2 and dxy = 0 give the step (0.5, -0.125)."""
    heatmap = np.zeros(SIZE, np.float32)
    heatmap[3, 4], heatmap[3, 2] = 0.5, -0.5
    heatmap[4, 3], heatmap[2, 3] = -0.25, 0.25
    heatmap[3, [1, 5]] = -2.0
    heatmap[[1, 5], 3] = -4.0
    np.testing.assert_allclose(taylor(heatmap, (3, 3)), [3.5, 2.875])


@pytest.mark.parametrize("coord", [(1, 5), (5, 1), (9, 5), (5, 10), (-1, 5), (5, 1e9), (0, 0)])
def test_border_is_skipped(coord: tuple[float, float]) -> None:
    np.testing.assert_array_equal(taylor(quadratic(1, 0, 1), coord), coord)


@pytest.mark.parametrize("coord", [(2, 2), (8, 9)])
def test_innermost_border_is_not(coord: tuple[int, int]) -> None:
    """The interior is 1 < x < W - 2 and 1 < y < H - 2, as in the reference.

    The quadratic is solved exactly although its top is far away.
    """
    np.testing.assert_allclose(taylor(quadratic(1, 0, 1), coord), TOP, atol=2e-5)


@pytest.mark.parametrize("size", [(4, 9), (9, 4), (1, 1)])
def test_too_small_maps_are_all_border(size: tuple[int, int]) -> None:
    coord = [size[1] // 2, size[0] // 2]
    np.testing.assert_array_equal(dark_jax.taylor(np.ones(size), np.array(coord)), coord)


def test_singular_is_skipped() -> None:
    """One map is flat. The other is a cylinder whose second derivative along y is zero."""
    cylinder = quadratic(1, 0, 0, top=(4.25, 4))
    for heatmap in (np.zeros(SIZE), cylinder):
        np.testing.assert_array_equal(taylor(heatmap, (4, 4)), [4, 4])


def test_exactly_singular_ridge_is_skipped() -> None:
    """With dxx = dyy = -dxy, a fused multiply-add would not cancel the equal products."""
    low = np.float32(np.log(0.75))
    heatmap = np.full(SIZE, 2 * low, np.float32)
    heatmap[1:4, 1:4] = low
    heatmap[2:4, 2:4] = heatmap[2, 4] = heatmap[4, 2] = 0
    heatmap[2, 0] = heatmap[0, 2] = low
    np.testing.assert_array_equal(taylor(heatmap, (2, 2)), [2, 2])


def test_the_step_has_no_bound() -> None:
    found = taylor(quadratic(1, 0, 1, top=(1000.25, 4)), (4, 4))
    np.testing.assert_allclose(found, [1000.25, 4], atol=0.1)


def test_fractions_are_cut_off_the_pixel_but_not_off_the_result() -> None:
    """int(coord) chooses the pixel; the step is added to the coordinate itself."""
    found = taylor(quadratic(1, 0, 1), (5.75, 6.5))
    np.testing.assert_allclose(found, [5.75 + 0.25, 6.5 + 0.375], atol=2e-5)


@pytest.mark.parametrize("scale", [1e-30, 1e-15, 1e15, 1e30])
def test_scale_does_not_matter(scale: float) -> None:
    """The determinant of the raw second differences would under- or overflow."""
    found = taylor(quadratic(1, 0.25, 1) * np.float32(scale), (5, 6))
    np.testing.assert_allclose(found, TOP, atol=2e-5)


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
    np.testing.assert_array_equal(taylor(np.ones(SIZE), (np.nan, 4)), [np.nan, 4])


@jax.jit
@jax.grad
def gradient_of_sum(heatmap: jax.Array, coord: jax.Array) -> jax.Array:
    return dark_jax.taylor(heatmap, coord).sum()


@pytest.mark.parametrize("coord", [(4, 4), (0, 0)])
def test_gradient_is_finite(coord: tuple[int, int]) -> None:
    for heatmap in (np.zeros(SIZE, np.float32), quadratic(1, 0, 1, top=(4.3, 4.1))):
        assert np.isfinite(gradient_of_sum(heatmap, np.array(coord))).all()


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
