"""The blurred neighbourhood equals the same part of the whole blurred map, at any border."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dark_jax._ops.gaussian import blur, gaussian_kernel, opencv_kernel
from dark_jax._ops.pixels import Padding, box, read
from dark_jax._ops.stencil import COMPACT, TAYLOR, Stencil
from dark_jax._ops.window import blurred
from tests.support import synthetic, tolerances

SIZES = [(9, 7), (3, 4), (1, 1), (6,), (1,), (2, 1, 3)]
# The names of the modes in NumPy. Its reflect repeats the pixel of an axis that has only one.
MODES: dict[Padding, Any] = {
    Padding.ZEROS: "constant",
    Padding.REFLECT: "reflect",
    Padding.SYMMETRIC: "symmetric",
}


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_read_is_a_cut_of_the_padded_map(size: tuple[int, ...]) -> None:
    """The reads are around every pixel, with every padding."""
    heatmap = synthetic.rng(0).standard_normal(size).astype(np.float32)

    @jax.jit
    @jax.vmap
    def read_at(position: jax.Array) -> list[jax.Array]:
        offsets = box((4,) * len(size))
        return [read(jnp.asarray(heatmap), tuple(position), offsets, mode) for mode in Padding]

    indices = [*np.ndindex(*size)]
    everywhere = read_at(np.array([index[::-1] for index in indices], np.int32))
    for found, padding in zip(everywhere, Padding, strict=True):
        padded = np.pad(heatmap, 4, mode=MODES[padding])
        expected = [padded[tuple(slice(at, at + 9) for at in index)] for index in indices]
        np.testing.assert_array_equal(found, np.reshape(expected, found.shape))


def test_box_has_a_radius_for_each_axis() -> None:
    """X varies fastest, as in memory."""
    np.testing.assert_array_equal(box((1, 0)), [[-1, 0], [0, 0], [1, 0]])
    assert box((1, 2, 3)).shape == (3 * 5 * 7, 3)
    np.testing.assert_array_equal(box((1, 2, 3))[:2], [[-1, -2, -3], [0, -2, -3]])


@pytest.mark.parametrize("kernel", [1, 7, 37])
def test_stencil_of_the_window_is_that_of_the_map(kernel: int) -> None:
    heatmap = synthetic.noise(1, 1, (12, 10), zero_mean=False)[0]
    kernels = (opencv_kernel(kernel),) * 2
    around = box((2 + kernel // 2,) * 2)
    places = np.array([(2, 2), (5, 6), (7, 9)], np.int32)

    @jax.jit
    def both(values: jax.Array) -> tuple[jax.Array, jax.Array]:
        def at(place: jax.Array) -> jax.Array:
            return blurred(read(values, tuple(place), around), kernels, TAYLOR.offsets(2))

        return blur(values, kernels), jax.vmap(at)(jnp.asarray(places))

    whole, windows = map(np.asarray, both(heatmap))
    for (x, y), found in zip(places, windows, strict=True):
        expected = [whole[y + dy, x + dx] for dx, dy in TAYLOR.offsets(2)]
        np.testing.assert_allclose(found, expected, atol=tolerances.BLUR[found.dtype])


def test_every_axis_has_its_own_kernel() -> None:
    kernels = tuple(gaussian_kernel(sigma) for sigma in (0.4, 0.8, 1.2))
    around = box(tuple(1 + len(kernel) // 2 for kernel in kernels))

    @jax.jit
    def both(volume: jax.Array) -> tuple[jax.Array, jax.Array]:
        window = read(volume, (jnp.int32(5), jnp.int32(3), jnp.int32(4)), around)
        return blur(volume, kernels), blurred(window, kernels, COMPACT.offsets(3))

    with jax.enable_x64(True):
        whole, found = map(np.asarray, both(synthetic.rng(2).random((9, 10, 11))))
    expected = [whole[4 + dz, 3 + dy, 5 + dx] for dx, dy, dz in COMPACT.offsets(3)]
    np.testing.assert_allclose(found, expected, atol=tolerances.BLUR[found.dtype])


@pytest.mark.parametrize("stencil", [TAYLOR, COMPACT], ids=["taylor", "compact"])
def test_no_infinity_in_the_window_goes_unseen(stencil: Stencil) -> None:
    """Decode checks only the first blurred value to see whether the window is finite."""
    pixels = (2 * stencil.reach + 3) ** 2
    kernels = (opencv_kernel(3),) * 2
    first = jax.jit(jax.vmap(lambda values: blurred(values, kernels, stencil.offsets(2))[0]))
    windows = np.ones((3, pixels, pixels), np.float32)
    for window, value in zip(windows, (np.nan, np.inf, -np.inf), strict=True):
        np.fill_diagonal(window, value)
    assert not np.isfinite(first(windows.reshape(-1, pixels))).any()
    assert np.isfinite(first(np.ones_like(windows).reshape(-1, pixels))).all()
