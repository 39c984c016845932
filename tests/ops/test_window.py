"""The blurred neighbourhood equals the same part of the whole blurred map, at any border."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dark_jax._ops.gaussian import blur, gaussian_kernel, opencv_kernel
from dark_jax._ops.pixels import Padding, box, read
from dark_jax._ops.stencil import COMPACT, TAYLOR
from dark_jax._ops.window import blurred
from tests.support import synthetic, tolerances

SIZES = [(9, 7), (3, 4), (1, 1), (1, 5), (6,), (1,), (3, 4, 5), (2, 1, 3)]
# NumPy's names, and for reflect what it does with a single pixel: repeat it.
MODES: dict[Padding, Any] = {
    Padding.ZEROS: "constant",
    Padding.REFLECT: "reflect",
    Padding.SYMMETRIC: "symmetric",
}


@pytest.mark.parametrize("padding", Padding)
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_read_is_a_cut_of_the_padded_map(size: tuple[int, ...], padding: Padding) -> None:
    heatmap = synthetic.rng(0).standard_normal(size).astype(np.float32)
    padded = np.pad(heatmap, 4, mode=MODES[padding])

    @jax.jit
    def read_at(*position: jax.Array) -> jax.Array:
        return read(jnp.asarray(heatmap), position, box((4,) * len(size)), padding)

    for index in np.ndindex(*size):
        found = np.asarray(read_at(*(np.int32(at) for at in reversed(index))))
        expected = padded[tuple(slice(at, at + 9) for at in index)]
        np.testing.assert_array_equal(found.reshape(expected.shape), expected)


def test_box_has_a_radius_for_each_axis() -> None:
    """X is the fastest, as in memory."""
    np.testing.assert_array_equal(box((1, 0)), [[-1, 0], [0, 0], [1, 0]])
    assert box((1, 2, 3)).shape == (3 * 5 * 7, 3)
    np.testing.assert_array_equal(box((1, 2, 3))[:2], [[-1, -2, -3], [0, -2, -3]])


@pytest.mark.parametrize("kernel", [1, 3, 7, 11, 37])
def test_stencil_of_the_window_is_that_of_the_map(kernel: int) -> None:
    heatmap = jnp.asarray(synthetic.noise(1, 1, (12, 10), zero_mean=False)[0])
    kernels = (opencv_kernel(kernel),) * 2
    whole = np.asarray(jax.jit(functools.partial(blur, kernels=kernels))(heatmap))
    around = box((2 + kernel // 2,) * 2)
    for x, y in ((2, 2), (5, 6), (7, 9)):
        window = read(heatmap, (jnp.int32(x), jnp.int32(y)), around)
        found = blurred(window, kernels, TAYLOR.offsets(2))
        expected = [whole[y + dy, x + dx] for dx, dy in TAYLOR.offsets(2)]
        np.testing.assert_allclose(found, expected, atol=tolerances.BLUR[found.dtype])


def test_every_axis_has_its_own_kernel() -> None:
    kernels = tuple(gaussian_kernel(sigma) for sigma in (0.4, 0.8, 1.2))
    around = box(tuple(1 + len(kernel) // 2 for kernel in kernels))
    with jax.enable_x64(True):
        volume = jnp.asarray(synthetic.rng(2).random((9, 10, 11)))
        whole = np.asarray(blur(volume, kernels))
        window = read(volume, (jnp.int32(5), jnp.int32(3), jnp.int32(4)), around)
        found = blurred(window, kernels, COMPACT.offsets(3))
    expected = [whole[4 + dz, 3 + dy, 5 + dx] for dx, dy, dz in COMPACT.offsets(3)]
    np.testing.assert_allclose(found, expected, atol=tolerances.BLUR[found.dtype])


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_no_infinity_in_the_window_goes_unseen(value: float) -> None:
    """Decode tells a finite window from the first stencil value alone."""
    for stencil in (TAYLOR, COMPACT):
        side = 2 * stencil.reach + 3
        for pixel in range(side * side):
            values = np.ones(side * side, np.float32)
            values[pixel] = value
            found = blurred(jnp.asarray(values), (opencv_kernel(3),) * 2, stencil.offsets(2))
            assert not np.isfinite(found[0])
