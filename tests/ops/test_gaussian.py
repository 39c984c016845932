"""Kernels and the blur of whole maps."""

import math
from typing import Any

import numpy as np
import pytest

import dark_jax
from dark_jax._ops.gaussian import gaussian_kernel, kernel_sigma, opencv_kernel
from tests.support import synthetic, tolerances

SIZE = (9, 8)


def test_opencv_tables_and_formula() -> None:
    """OpenCV 4 has tables up to 7 and a formula from 9. OpenCV 5 has a table for 9."""
    np.testing.assert_array_equal(opencv_kernel(1), [1])
    np.testing.assert_array_equal(opencv_kernel(3), [0.25, 0.5, 0.25])
    np.testing.assert_array_equal(opencv_kernel(5) * 16, [1, 4, 6, 4, 1])
    np.testing.assert_array_equal(opencv_kernel(7) * 64, [2, 7, 14, 18, 14, 7, 2])
    assert kernel_sigma(9) == pytest.approx(1.7)
    x = np.arange(-4, 5)
    weights = np.exp(-(x**2) / (2 * 1.7**2))
    np.testing.assert_allclose(opencv_kernel(9), weights / weights.sum(), rtol=1e-14)


@pytest.mark.parametrize("sigma", [0.3, 1.0, 2.5])
def test_true_gaussian(sigma: float) -> None:
    kernel = gaussian_kernel(sigma)
    assert len(kernel) == 2 * math.ceil(3 * sigma) + 1
    assert kernel.sum() == pytest.approx(1, abs=1e-15)
    centre = len(kernel) // 2
    assert kernel[centre + 1] / kernel[centre] == pytest.approx(math.exp(-0.5 / sigma**2))


def blurred(heatmap: np.ndarray, kernel: int = 3) -> np.ndarray:
    """Blur one map of ``SIZE``. Several tests share the program for kernel 3."""
    assert heatmap.shape == SIZE
    return np.asarray(dark_jax.gaussian_blur(heatmap.astype(np.float32)[None, None], kernel))[0, 0]


def test_blur_of_a_spike_is_the_kernel() -> None:
    """By hand, the blur is outer([1 2 1], [1 2 1]) / 16, times 4 to restore the maximum."""
    heatmap, expected = np.zeros(SIZE), np.zeros(SIZE)
    heatmap[2, 3] = 1
    expected[1:4, 2:5] = np.array([[1, 2, 1], [2, 4, 2], [1, 2, 1]]) / 4
    np.testing.assert_array_equal(blurred(heatmap), expected)


def test_zero_padding_at_a_corner() -> None:
    """By hand: a constant map loses 1/4 at an edge and 7/16 at a corner."""
    expected = np.ones(SIZE)
    expected[[0, -1]] *= 3 / 4
    expected[:, [0, -1]] *= 3 / 4
    np.testing.assert_array_equal(blurred(np.ones(SIZE)), expected)


# The kernels are wider or narrower than the map, along one axis or both.
@pytest.mark.parametrize(
    ("size", "kernel"), [((1, 1), 37), ((1, 8), 3), ((3, 2), 11), ((16, 15), 11)], ids=str
)
def test_maximum_is_kept(size: tuple[int, int], kernel: int) -> None:
    maps = synthetic.noise(0, 6, size, zero_mean=False)[None]
    found = np.asarray(dark_jax.gaussian_blur(maps, kernel))
    np.testing.assert_allclose(found.max((-2, -1)), maps.max((-2, -1)), rtol=1e-6)


def test_kernel_one_changes_nothing() -> None:
    maps = synthetic.noise(0, 6, (7, 9), zero_mean=True)[None]
    np.testing.assert_allclose(dark_jax.gaussian_blur(maps, 1), maps, rtol=3e-7)


def test_integers_are_not_rounded_back() -> None:
    maps = np.zeros((1, 1, 5, 5), np.uint8)
    maps[0, 0, 2, 2] = 3
    assert np.asarray(dark_jax.gaussian_blur(maps))[0, 0, 2, 1] == 1.5


def test_zero_maps_stay_zero() -> None:
    """The reference divides zero by zero on such a map."""
    np.testing.assert_array_equal(blurred(np.zeros(SIZE)), np.zeros(SIZE))


def test_minus_infinity_reaches_no_further_than_the_kernel() -> None:
    heatmap = np.ones(SIZE)
    heatmap[0, 0] = -np.inf
    found = blurred(heatmap)
    expected = np.zeros(SIZE, bool)
    expected[:2, :2] = True
    np.testing.assert_array_equal(np.isneginf(found), expected)
    assert np.isfinite(found[~expected]).all()


@pytest.mark.parametrize("kernel", [0, 2, -3])
def test_kernel_must_be_odd(kernel: int) -> None:
    with pytest.raises(ValueError, match=f"kernel must be an odd integer .* got {kernel}"):
        dark_jax.gaussian_blur(np.ones((1, 1, 4, 4)), kernel)


@pytest.mark.parametrize("kernel", [3.0, "3", None, True])
def test_kernel_must_be_an_integer(kernel: Any) -> None:
    with pytest.raises(TypeError, match="kernel must be an odd integer"):
        dark_jax.gaussian_blur(np.ones((1, 1, 4, 4)), kernel)


def test_numpy_integers_are_integers() -> None:
    kernel: Any = np.int64(3)
    np.testing.assert_array_equal(blurred(np.ones(SIZE), kernel), blurred(np.ones(SIZE), 3))


def test_separable_blur_is_a_plain_convolution() -> None:
    """The blur matches a double loop in NumPy, in float64."""
    heatmap = synthetic.noise(5, 1, SIZE, zero_mean=False)[0]
    kernel = opencv_kernel(5)
    padded = np.pad(heatmap.astype(np.float64), 2)
    expected = np.zeros(SIZE)
    for row, column in np.ndindex(SIZE):
        expected[row, column] = kernel @ padded[row : row + 5, column : column + 5] @ kernel
    expected *= heatmap.max() / expected.max()
    found = blurred(heatmap, 5)
    np.testing.assert_allclose(found, expected, rtol=0, atol=tolerances.BLUR[found.dtype])
