"""Peaks above a background, as in microscope images, which are nowhere zero."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import dark_jax
from dark_jax import Keypoints
from tests.support import synthetic

SIZE = (24, 20)
MAPS, _ = synthetic.crowds(0, 3, SIZE, peaks=4, separation=5, sigma=1.5, noise=0.01)
THRESHOLD = np.float32(0.3)


@jax.jit
def peaks(maps: jax.Array, threshold: jax.Array, background: jax.Array) -> Keypoints:
    return dark_jax.decode_peaks(maps, threshold=threshold, background=background, max_peaks=6)


@pytest.fixture(scope="module")
def expected() -> Keypoints:
    """The peaks found without a background."""
    return dark_jax.decode_peaks(MAPS, threshold=THRESHOLD, max_peaks=6)


@pytest.mark.parametrize("floor", [100.0, -5.0, 0.0, np.array([100.0, -5.0, 0.25])], ids=str)
def test_the_same_peaks_wherever_zero_is(floor: Any, expected: Keypoints) -> None:
    """Peaks agree as exactly as float32 holds the sums. Scores are the map's values to the bit."""
    floor = np.asarray(floor, np.float32)
    maps = MAPS + floor.reshape(-1, 1, 1)
    found = peaks(maps, THRESHOLD + floor, floor)
    np.testing.assert_array_equal(found.status, expected.status)
    np.testing.assert_allclose(found.coords, expected.coords, rtol=0, atol=1e-4)
    for heatmap, scores, taken in zip(maps, found.scores, np.asarray(found.found), strict=True):
        assert taken.any()
        assert np.isin(np.asarray(scores)[taken], heatmap).all()
        assert (np.asarray(scores)[~taken] == 0).all()


def test_zero_is_no_background(expected: Keypoints) -> None:
    """A background of zero, traced or not, changes no bit."""
    found = peaks(MAPS, THRESHOLD, np.float32(0))
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        np.testing.assert_array_equal(a, b)


def test_whole_numbers(expected: Keypoints) -> None:
    """The maps are camera counts. A window that leaves the map sees the background outside."""
    counts = np.round(1000 * np.clip(MAPS, 0, None) + 5000).astype(np.uint16)
    found = dark_jax.decode_peaks(counts, threshold=5300, background=5000, max_peaks=6)
    refined = np.asarray(found.refined & expected.refined)
    assert refined.sum() > 8
    np.testing.assert_allclose(
        np.asarray(found.coords)[refined], np.asarray(expected.coords)[refined], atol=0.02
    )
    np.testing.assert_array_equal(found.scores[0, 0], counts[0].max())


def test_nothing_rises_above_it() -> None:
    """The maps are a plateau, which the slower method searches again, and one with a NaN."""
    plateau, spoilt = np.full(SIZE, 3, np.float32), MAPS[0] + np.float32(3)
    spoilt[-1, 0] = np.nan
    found = peaks(np.stack([plateau, plateau, spoilt]), 3.3, np.array([3, 2, 3], np.float32))
    assert [status.name for status in map(dark_jax.Status, found.status[:, 0].tolist())] == [
        "NO_PEAK",
        "NO_PEAK",
        "NOT_FINITE",
    ]
    assert np.isnan(found.scores[2]).all()
    found = peaks(plateau, 2.5, 2.0)
    assert found.scores.tolist() == [3, 0, 0, 0, 0, 0]
    assert np.asarray(found.found).sum() == 1


def test_gradient() -> None:
    """Gradients are finite. A constant added to both map and background moves no peak."""

    @jax.grad
    def slopes(both: tuple[jax.Array, jax.Array]) -> jax.Array:
        return peaks(both[0], jnp.float32(100.3), both[1]).coords.sum()

    by_map, by_floor = slopes((jnp.asarray(MAPS + 100), jnp.float32(100)))
    assert np.isfinite(by_map).all()
    assert float(jnp.abs(by_map).max()) > 1
    np.testing.assert_allclose(by_map.sum() + by_floor, 0, atol=1e-2)
