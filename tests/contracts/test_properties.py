"""Symmetries every decoder has to share with the maps."""

from collections.abc import Callable

import jax
import numpy as np
import pytest

import dark_jax
from tests.support import synthetic, tolerances

SIZE = (26, 22)

DECODERS: dict[str, Callable[[np.ndarray], jax.Array]] = {
    "decode": lambda maps: dark_jax.decode(maps).coords,
    "decode sigma": lambda maps: dark_jax.decode(maps, sigma=1.5).coords,
    "get_final_preds": lambda maps: dark_jax.get_final_preds(maps[None])[0][0],
}


@pytest.fixture(
    params=["decode", "get_final_preds", pytest.param("decode sigma", marks=pytest.mark.slow)]
)
def decoder(request: pytest.FixtureRequest) -> Callable[[np.ndarray], np.ndarray]:
    return lambda maps: np.asarray(DECODERS[request.param](maps))


@pytest.fixture(scope="module")
def maps() -> np.ndarray:
    """Noisy bumps, no two pixels equal, peaks anywhere."""
    values, _ = synthetic.gaussians(0, 40, SIZE, sigma=2.0, noise=0.05, margin=0.0)
    return values


def assert_close(found: np.ndarray, expected: np.ndarray) -> None:
    np.testing.assert_allclose(found, expected, rtol=0, atol=20 * tolerances.COMPILED)


def test_flips(decoder: Callable[[np.ndarray], np.ndarray], maps: np.ndarray) -> None:
    width, height = SIZE[1], SIZE[0]
    plain = decoder(maps)
    assert_close(decoder(maps[:, :, ::-1]) * [-1, 1] + [width - 1, 0], plain)
    assert_close(decoder(maps[:, ::-1, :]) * [1, -1] + [0, height - 1], plain)


def test_transpose(decoder: Callable[[np.ndarray], np.ndarray], maps: np.ndarray) -> None:
    assert_close(decoder(maps.swapaxes(1, 2))[:, ::-1], decoder(maps))


@pytest.mark.parametrize("shift", [(1, 0), (0, 2), (-3, 1)])
def test_translation(decoder: Callable[[np.ndarray], np.ndarray], shift: tuple[int, int]) -> None:
    """Maps that are zero near every edge move as a whole."""
    values, _ = synthetic.gaussians(1, 20, (40, 36), sigma=1.5, margin=16.0)
    values[values < 1e-4] = 0
    moved = np.roll(values, shift, axis=(2, 1))
    assert_close(decoder(moved), decoder(values) + shift)


@pytest.mark.parametrize("scale", [0.25, 64.0])
def test_scale(decoder: Callable[[np.ndarray], np.ndarray], maps: np.ndarray, scale: float) -> None:
    assert_close(decoder(maps * np.float32(scale)), decoder(maps))


def test_permutation_and_independence(
    decoder: Callable[[np.ndarray], np.ndarray], maps: np.ndarray
) -> None:
    """The order of the maps, and which others share the batch, change no bit."""
    plain = decoder(maps)
    order = synthetic.rng(2).permutation(len(maps))
    np.testing.assert_array_equal(decoder(maps[order]), plain[order])
    np.testing.assert_array_equal(decoder(np.concatenate([maps[:20], maps[:20]]))[20:], plain[:20])


def test_scores_are_raw_maxima(maps: np.ndarray) -> None:
    np.testing.assert_array_equal(dark_jax.decode(3 * maps).scores, (3 * maps).max((-2, -1)))
