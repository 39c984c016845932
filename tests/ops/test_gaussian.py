"""Kernels and the blur of whole maps."""

import math
from typing import Any

import numpy as np
import pytest

import dark_jax
from dark_jax._ops.gaussian import gaussian_kernel, kernel_sigma, opencv_kernel
from tests.support import synthetic, tolerances


def test_opencv_tables_and_formula() -> None:
    """Tables to 7, the formula from 9: OpenCV 4, where OpenCV 5 has a table for 9."""
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


def test_blur_of_a_spike_is_the_kernel() -> None:
    """By hand: outer([1 2 1], [1 2 1]) / 16, times the 4 that restores the maximum."""
    maps = np.zeros((1, 1, 5, 6), np.float32)
    maps[0, 0, 2, 3] = 1
    expected = np.zeros((5, 6))
    expected[1:4, 2:5] = np.array([[1, 2, 1], [2, 4, 2], [1, 2, 1]]) / 4
    np.testing.assert_array_equal(dark_jax.gaussian_blur(maps)[0, 0], expected)


def test_zero_padding_at_a_corner() -> None:
    """By hand: a constant map loses 1/4 at an edge and 7/16 at a corner."""
    blurred = np.asarray(dark_jax.gaussian_blur(np.ones((1, 1, 4, 4), np.float32)))[0, 0]
    np.testing.assert_array_equal(blurred[0], [9 / 16, 3 / 4, 3 / 4, 9 / 16])
    np.testing.assert_array_equal(blurred[1], [3 / 4, 1, 1, 3 / 4])


@pytest.mark.parametrize("kernel", [1, 3, 11, 37])
@pytest.mark.parametrize("size", [(1, 1), (1, 8), (3, 2), (16, 15)], ids=str)
def test_maximum_is_kept(size: tuple[int, int], kernel: int) -> None:
    maps = synthetic.noise(0, 6, size, zero_mean=False)[None]
    blurred = np.asarray(dark_jax.gaussian_blur(maps, kernel))
    np.testing.assert_allclose(blurred.max((-2, -1)), maps.max((-2, -1)), rtol=1e-6)


def test_kernel_one_changes_nothing() -> None:
    maps = synthetic.noise(0, 6, (7, 9), zero_mean=True)[None]
    np.testing.assert_allclose(dark_jax.gaussian_blur(maps, 1), maps, rtol=3e-7)


def test_integers_are_not_rounded_back() -> None:
    maps = np.zeros((1, 1, 5, 5), np.uint8)
    maps[0, 0, 2, 2] = 3
    assert dark_jax.gaussian_blur(maps)[0, 0, 2, 1] == 1.5


def test_zero_maps_stay_zero() -> None:
    """The seed divides zero by zero here."""
    maps = np.zeros((2, 3, 6, 6), np.float32)
    np.testing.assert_array_equal(dark_jax.gaussian_blur(maps), maps)


def test_minus_infinity_reaches_no_further_than_the_kernel() -> None:
    maps = np.ones((1, 1, 9, 9), np.float32)
    maps[0, 0, 0, 0] = -np.inf
    blurred = np.asarray(dark_jax.gaussian_blur(maps, 3))[0, 0]
    expected = np.zeros((9, 9), bool)
    expected[:2, :2] = True
    np.testing.assert_array_equal(np.isneginf(blurred), expected)
    assert np.isfinite(blurred[~expected]).all()


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
    maps = np.ones((1, 1, 4, 4), np.float32)
    np.testing.assert_array_equal(
        dark_jax.gaussian_blur(maps, kernel), dark_jax.gaussian_blur(maps, 3)
    )


def test_separable_blur_is_a_plain_convolution() -> None:
    """Against a double loop in NumPy, float64."""
    heatmap = synthetic.noise(5, 1, (9, 8), zero_mean=False)[0]
    kernel = opencv_kernel(5)
    padded = np.pad(heatmap.astype(np.float64), 2)
    expected = np.zeros((9, 8))
    for row, column in np.ndindex(9, 8):
        expected[row, column] = kernel @ padded[row : row + 5, column : column + 5] @ kernel
    expected *= heatmap.max() / expected.max()
    found = dark_jax.gaussian_blur(heatmap[None, None], 5)[0, 0]
    np.testing.assert_allclose(found, expected, rtol=0, atol=tolerances.BLUR[found.dtype])
