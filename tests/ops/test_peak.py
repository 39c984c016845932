"""The peak is NumPy's argmax, bit for bit, for every value a map can hold."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import dark_jax
from dark_jax._ops.peak import find_peak
from tests.support import synthetic
from tests.support.batches import in_batches

BATCH = 8
FEW_VALUES = [0.0, -0.0, 1.0, -1.0, 2.0, np.inf, -np.inf, np.nan, 3e38, -3e38]


find_peaks = jax.jit(jax.vmap(find_peak))


def assert_numpy_argmax(maps: np.ndarray) -> None:
    peak = in_batches(find_peaks, maps, size=BATCH)
    flat = maps.reshape(len(maps), -1)
    expected = np.unravel_index(flat.argmax(axis=1), maps.shape[1:])
    for found, index in zip(peak.position, reversed(expected), strict=True):
        np.testing.assert_array_equal(found, index)
    # Scores are compared as integers, so -0.0 and NaN must agree bit for bit.
    expected = np.take_along_axis(flat, flat.argmax(axis=1)[:, None], axis=1)[:, 0]
    np.testing.assert_array_equal(
        np.asarray(peak.score).view(np.int32), expected.astype(np.float32).view(np.int32)
    )


@settings(deadline=None, max_examples=200)
@given(st.sampled_from([(16, 5, 7), (16, 35), (16, 3, 4, 3)]), st.data())
def test_ties_and_special_values(shape: tuple[int, ...], data: st.DataObject) -> None:
    values = hnp.arrays(np.float32, shape, elements=st.sampled_from(FEW_VALUES))
    assert_numpy_argmax(data.draw(values))


@pytest.mark.parametrize(
    "size",
    [(1, 9), (9, 1), (64, 48), (257, 131), (1000,), (12, 20, 31)],
    ids=str,
)
def test_sizes(size: tuple[int, ...]) -> None:
    """Some sizes are large enough for the compiler's fast reductions, which drop NaN."""
    generator = synthetic.rng(1)
    maps = generator.standard_normal((BATCH, *size)).astype(np.float32)
    for heatmap, special in zip(maps[2:], (np.nan, np.inf, -np.inf, np.nan, 0.0), strict=False):
        heatmap[tuple(generator.integers(size))] = special
    assert_numpy_argmax(maps)


def test_degenerate_maps() -> None:
    assert_numpy_argmax(np.stack(list(synthetic.degenerate((64, 48)).values())))


def test_no_maximum_above_zero_is_the_origin() -> None:
    maps = np.full((1, 3, 4, 5), -1.0, np.float32)
    maps[0, 0, 2, 3], maps[0, 1, 2, 3], maps[0, 2, 2, 3] = 0.0, np.nan, 0.5
    coords, maxvals = map(np.asarray, dark_jax.get_max_preds(maps))
    np.testing.assert_array_equal(coords[0], [[0, 0], [0, 0], [3, 2]])
    np.testing.assert_array_equal(maxvals[0, :, 0], [0, np.nan, 0.5])


@pytest.mark.parametrize(
    ("heatmaps", "error", "message"),
    [
        (np.zeros((4, 5)), ValueError, r"heatmaps must have shape \[B, J, H, W\], got \(4, 5\)"),
        (np.zeros((1, 1, 0, 5)), ValueError, r"heatmaps must have maps of at least one pixel"),
        (np.zeros((1, 1, 4, 5), complex), TypeError, r"real numbers .* got dtype complex128"),
        (np.full((1, 1, 4, 5), "a"), TypeError, r"real numbers .* got dtype <U1"),
        (None, TypeError, "heatmaps must be an array of real numbers, got None"),
    ],
)
def test_bad_input_is_named(heatmaps: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        dark_jax.get_max_preds(heatmaps)


@pytest.mark.parametrize(
    "shape", [(2**24 + 1,), (3, 2**25, 1), (2**16, 2**15), (2**11, 2**10, 2**10)], ids=str
)
def test_maps_that_cannot_be_counted_are_refused(shape: tuple[int, ...]) -> None:
    """Tracing raises: float32 counts places only to 2^24, and int32 holds indices below 2^31."""
    maps = jax.ShapeDtypeStruct(shape, jnp.uint8)
    decoders: list[Any] = [
        functools.partial(dark_jax.decode, axes=tuple(range(len(shape)))),
        functools.partial(dark_jax.decode_soft_argmax, temperature=1.0, axes=(-1,)),
    ]
    message = "heatmaps must have maps of at most 16777216 pixels along an axis and 2147483647"
    with pytest.raises(ValueError, match=message):
        jax.eval_shape(decoders[0], maps)
    if shape[-1] > 2**24:
        with pytest.raises(ValueError, match=message):
            jax.eval_shape(decoders[1], maps)
    with pytest.raises(ValueError, match="size must be that of maps of at most 16777216 pixels"):
        dark_jax.encode(
            np.zeros((1, len(shape))), size=shape, axes=(-1, -2, -3)[: len(shape)][::-1]
        )


def test_the_last_pixel_of_the_longest_row() -> None:
    row = np.zeros(2**24, np.uint8)
    row[-1] = 1
    found = dark_jax.decode(row, axes=(-1,))
    assert (found.coords.item(), found.scores.item()) == (2**24 - 1, 1)


def test_64_bit_and_foreign_bytes() -> None:
    """Types that JAX would wrap or refuse are converted. Those it cannot hold raise an error."""
    wide = np.array([[[[1, 2**31 + 5], [3, 2**32 + 1]]]])
    np.testing.assert_array_equal(dark_jax.get_max_preds(wide)[0], [[[1, 1]]])
    swapped = np.array([[[[1.0, 5.0], [3.0, 2.0]]]], dtype=">f4")
    np.testing.assert_array_equal(dark_jax.get_max_preds(swapped)[0], [[[1, 0]]])
    for dtype in (np.longdouble, "m8[s]"):
        with pytest.raises(TypeError, match="heatmaps must hold real numbers of at most 64 bits"):
            dark_jax.get_max_preds(np.zeros((1, 1, 2, 2), dtype))


def test_gradient_of_the_score_goes_to_the_first_peak() -> None:
    maps, expected = np.zeros((2, 1, 1, 4, 4), np.float32)
    maps[0, 0, 1, [1, 2]] = expected[0, 0, 1, 1] = 1.0
    gradient = jax.jit(jax.grad(lambda m: dark_jax.get_max_preds(m)[1].sum()))(maps)
    np.testing.assert_array_equal(gradient, expected)
