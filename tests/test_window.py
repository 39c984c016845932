"""The blurred neighbourhood equals the same part of the whole blurred map, at any border."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dark_jax.gaussian import blur, opencv_kernel
from dark_jax.peak import Peak
from dark_jax.window import REACH, STENCIL, blurred_stencil, read, read_for, square
from tests import synthetic, tolerances


def peak(x: int, y: int) -> Peak:
    return Peak(jnp.int32(x), jnp.int32(y), jnp.float32(1))


@pytest.mark.parametrize("size", [(9, 7), (3, 4), (1, 1)], ids=str)
def test_read_is_a_cut_of_the_padded_map(size: tuple[int, int]) -> None:
    heatmap = synthetic.noise(0, 1, size, zero_mean=True)[0]
    padded = np.pad(heatmap, 4)
    for y, x in np.ndindex(*size):
        found = read(jnp.asarray(heatmap), peak(x, y), square(4))
        np.testing.assert_array_equal(found.reshape(9, 9), padded[y : y + 9, x : x + 9])


@pytest.mark.parametrize("kernel", [1, 3, 7, 11, 37])
def test_stencil_of_the_window_is_that_of_the_map(kernel: int) -> None:
    heatmap = jnp.asarray(synthetic.noise(1, 1, (12, 10), zero_mean=False)[0])
    weights = opencv_kernel(kernel)
    whole = np.asarray(jax.jit(functools.partial(blur, kernel=weights))(heatmap))
    for x, y in ((2, 2), (5, 6), (7, 9)):
        found = blurred_stencil(read_for(heatmap, peak(x, y), weights), weights)
        expected = [whole[y + dy, x + dx] for dx, dy in STENCIL]
        np.testing.assert_allclose(found, expected, atol=tolerances.BLUR[found.dtype])


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_no_infinity_in_the_window_goes_unseen(value: float) -> None:
    """Decode tells a finite window from the first stencil value alone."""
    weights = opencv_kernel(3)
    for pixel in range(49):
        values = np.ones(49, np.float32)
        values[pixel] = value
        assert not np.isfinite(blurred_stencil(jnp.asarray(values), weights)[0])


def test_stencil() -> None:
    """The peak first, its neighbours in the order that the derivatives take them."""
    assert tuple(STENCIL[0]) == (0, 0)
    assert len(STENCIL) == 16
    assert len({tuple(offset) for offset in STENCIL}) == 13
    assert np.abs(STENCIL).max() == REACH
