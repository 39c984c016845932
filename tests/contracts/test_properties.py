"""Symmetries of the maps which every decoder has to share."""

from collections.abc import Callable

import jax
import numpy as np
import pytest

import dark_jax
from tests.contracts.decoders import DECODERS, FIRST, KINDS, Decoder
from tests.support import synthetic, tolerances
from tests.support.cases import slow_but

# Large enough for blobs that move, with all the pixels that the blur reaches. One program serves
# all tests but that of square maps, which needs another.
SIZE = (40, 36)
COUNT = 40


@pytest.fixture(params=slow_but(FIRST, (*KINDS, "decode rule")))
def decoder(request: pytest.FixtureRequest) -> Decoder:
    return DECODERS[request.param]


@pytest.fixture(scope="module")
def maps() -> np.ndarray:
    """Noisy bumps with peaks anywhere, and without equal pixels."""
    values, _ = synthetic.gaussians(0, COUNT, SIZE, sigma=2.0, noise=0.05, margin=0.0)
    return values[None]


def found(decoder: Decoder, maps: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Coordinates ``[COUNT, ..., 2]``, and whether there is a peak: empty slots do not move."""
    keypoints = decoder(maps)
    coords = np.asarray(decoder.coords(maps))[0]
    if isinstance(keypoints, dark_jax.Keypoints):
        return coords, np.asarray(keypoints.status)[0] != dark_jax.Status.NO_PEAK
    return coords, np.ones(coords.shape[:-1], bool)


def assert_moved(
    decoder: Decoder,
    changed: np.ndarray,
    maps: np.ndarray,
    move: Callable[[np.ndarray], np.ndarray],
    *,
    atol: float = 20 * tolerances.COMPILED,
) -> None:
    """Assert that the ``changed`` maps have the coordinates of ``maps`` after ``move``."""
    (after, there), (before, also) = found(decoder, changed), found(decoder, maps)
    np.testing.assert_array_equal(there, also)
    np.testing.assert_allclose(after[there], move(before)[there], rtol=0, atol=atol)


def test_flips(decoder: Decoder, maps: np.ndarray) -> None:
    (height, width), atol = SIZE, 20 * tolerances.COMPILED if decoder.mirrors else 0.05
    flipped, upside_down = maps[..., ::-1], maps[..., ::-1, :]
    assert_moved(decoder, flipped, maps, lambda xy: xy * [-1, 1] + [width - 1, 0], atol=atol)
    assert_moved(decoder, upside_down, maps, lambda xy: xy * [1, -1] + [0, height - 1], atol=atol)


def test_transpose(decoder: Decoder, maps: np.ndarray) -> None:
    """Square maps need one program for both orders."""
    square = maps[..., : min(SIZE), : min(SIZE)]
    assert_moved(decoder, square.swapaxes(-1, -2), square, lambda xy: xy[..., ::-1])


@pytest.mark.parametrize("shift", [(1, 0), (0, 2), (-3, 1)])
def test_translation(decoder: Decoder, shift: tuple[int, int]) -> None:
    """Maps that are zero near every edge move as a whole."""
    values, _ = synthetic.gaussians(1, COUNT, SIZE, sigma=1.5, margin=16.0)
    values[values < 1e-4] = 0
    moved = np.roll(values, shift, axis=(2, 1))
    assert_moved(decoder, moved[None], values[None], lambda xy: xy + shift)


@pytest.mark.parametrize("scale", [0.25, 64.0])
def test_scale(decoder: Decoder, maps: np.ndarray, scale: float) -> None:
    """A ``scale_free`` decoder ignores scale. Others have a temperature, threshold or floor."""
    if decoder.scale_free:
        assert_moved(decoder, maps * np.float32(scale), maps, lambda xy: xy)
    else:
        assert np.isfinite(decoder.coords(maps * np.float32(scale))).all()


def test_permutation_and_independence(decoder: Decoder, maps: np.ndarray) -> None:
    """The order of the maps and the other maps of the batch do not change a bit."""
    plain = decoder.coords(maps)[0]
    order = synthetic.rng(2).permutation(COUNT)
    np.testing.assert_array_equal(decoder.coords(maps[:, order])[0], plain[order])
    others = np.concatenate([maps[:, :20], maps[:, :20]], axis=1)
    np.testing.assert_array_equal(decoder.coords(others)[0, 20:], plain[:20])


def test_scores_are_raw_maxima(decoder: Decoder, maps: np.ndarray) -> None:
    """Of several peaks only the first is compared. The bins of SimCC hold the map's maxima."""
    keypoints = decoder(3 * maps)
    scores = jax.tree.leaves(keypoints)[1]
    if isinstance(keypoints, dark_jax.Keypoints):
        scores = keypoints.scores
    scores = np.asarray(scores).reshape(COUNT, -1)[:, 0]
    np.testing.assert_array_equal(scores, (3 * maps).max((-2, -1))[0])
