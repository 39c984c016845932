"""Gaussian targets, and decoding them again."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import dark_jax
from dark_jax import Status
from tests.support import synthetic, tolerances


def test_is_the_gaussian() -> None:
    """Maps match the float64 definition. Keypoints outside the map draw their tails."""
    coords = np.array([[4.3, 6.75], [0.0, 0.0], [-3.2, 5.0], [20.0, 31.5]])
    found = dark_jax.encode(coords.astype(np.float32), size=(12, 10), sigma=1.7)
    assert found.shape == (4, 12, 10)
    assert found.dtype == jnp.float32
    np.testing.assert_allclose(
        found, synthetic.draw(coords, (12, 10), sigma=1.7), rtol=0, atol=3e-7
    )


def test_height_is_one_at_a_pixel_centre() -> None:
    assert np.asarray(dark_jax.encode(np.array([3, 2]), size=(5, 6)))[2, 3] == 1


@pytest.mark.parametrize("leading", [(), (0, 4), (2, 1, 3)])
def test_any_leading_axes(leading: tuple[int, ...]) -> None:
    assert dark_jax.encode(np.ones((*leading, 2)), size=(4, 5)).shape == (*leading, 4, 5)


def test_sigma_per_keypoint_and_traced() -> None:
    coords = synthetic.centres(0, 6, (16, 16), margin=3.0).astype(np.float32).reshape(2, 3, 2)
    sigma = np.array([1.0, 2.0, 3.0], np.float32)
    draw = jax.jit(lambda s: dark_jax.encode(coords, size=(16, 16), sigma=s))
    drawn = np.asarray(draw(sigma[:, None]))
    for joint in range(3):
        alone = dark_jax.encode(coords[:, joint], size=(16, 16), sigma=float(sigma[joint]))
        np.testing.assert_allclose(drawn[:, joint], alone, atol=tolerances.COMPILED)


def test_missing_keypoints_are_zero_maps() -> None:
    coords = np.array([[4, 4], [np.nan, 4], [4, np.inf], [4, 4], [4, 4]], np.float32)
    visible = np.array([2, 2, 1, 0, -1])
    found = np.asarray(dark_jax.encode(coords, size=(8, 8), visible=visible))
    np.testing.assert_array_equal(found.any((-2, -1)), [True, False, False, False, False])
    np.testing.assert_array_equal(dark_jax.encode(coords, size=(8, 8), visible=visible > 0), found)


@jax.jit
def draw_with(sigma: jax.Array) -> jax.Array:
    return dark_jax.encode(np.ones(2), size=(4, 4), sigma=sigma)


@pytest.mark.parametrize("sigma", [0.0, -1.0, np.nan, np.inf])
def test_sigma_that_cannot_be_drawn(sigma: float) -> None:
    """Such a sigma is an error when not traced. A traced one draws nothing."""
    with pytest.raises(ValueError, match="sigma must be a positive, finite number, got"):
        dark_jax.encode(np.ones(2), size=(4, 4), sigma=sigma)
    np.testing.assert_array_equal(draw_with(np.float32(sigma)), np.zeros((4, 4)))


def test_quantized() -> None:
    """By hand, the centre is the nearest pixel, halves up, and a square of 3 sigma is kept.

    Centres are cut towards zero, as int() does in older code bases: -0.9 + 0.5 is pixel 0.
    """
    coords = np.array([[6.5, 5.4], [-0.9, 3.0]])
    found = np.asarray(dark_jax.encode(coords, size=(11, 13), sigma=1.0, quantize=True))
    expected = synthetic.draw(np.array([[7.0, 5.0]]), (11, 13), sigma=1.0)[0]
    expected[[0, 1, -1, -2]] = 0
    expected[:, [0, 1, 2, 3, 11, 12]] = 0
    np.testing.assert_allclose(found[0], expected, atol=1e-7)
    assert found[1, 3, 0] == 1


@pytest.mark.parametrize(
    ("kernel", "sigma", "tolerance"),
    [
        *[(11, sigma, tolerances.ROUND_TRIP) for sigma in (1.5, 2.0, 3.0, 4.5, 6.0)],
        *[(None, 1.5, tolerances.ROUND_TRIP_NARROW), (None, 2.0, 6e-4)],
        *[(None, sigma, tolerances.ROUND_TRIP) for sigma in (3.0, 6.0)],
    ],
)
def test_round_trip(kernel: int | None, sigma: float, tolerance: float) -> None:
    """Every edge is at least (k - 1) / 2 + 3 px away: 8 for k = 11, 5 for the default, 5."""
    size = (41, 67)
    points = synthetic.centres(7, 500, size, margin=8.0).astype(np.float32)
    heatmaps = dark_jax.encode(points, size=size, sigma=sigma)
    keypoints = dark_jax.decode(heatmaps, kernel_size=kernel)
    assert (np.asarray(keypoints.status) == Status.REFINED).all()
    np.testing.assert_allclose(keypoints.coords, points, rtol=0, atol=tolerance)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"size": (4,)}, ValueError, r"size must be \(H, W\), got \(4,\)"),
        ({"size": (4, 0)}, ValueError, r"size must be \(H, W\), each at least 1, got \(4, 0\)"),
        ({"size": (4.0, 4)}, TypeError, "size must be .H, W. of positive integers, got 4.0"),
        ({"size": 4}, TypeError, r"size must be \(H, W\), got 4"),
        (
            {"size": (4, 4), "sigma": [1.0, 2.0, 3.0]},
            ValueError,
            r"sigma must broadcast to \(3, 2\), got shape .* for joints, sigma\[\.\.\., None",
        ),
        ({"size": (4, 4), "visible": np.ones((2, 3))}, ValueError, "visible must broadcast to"),
        ({"size": (4, 4), "visible": ["a"]}, TypeError, "visible must hold real numbers"),
        ({"size": (4, 4), "quantize": 1}, TypeError, "quantize must be True or False, got 1"),
    ],
)
def test_bad_parameters_are_named(
    arguments: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        dark_jax.encode(np.ones((3, 2)), **arguments)


@pytest.mark.parametrize("coords", [np.ones((3, 3)), np.ones(()), np.ones((2, 1))])
def test_bad_coords_are_named(coords: np.ndarray) -> None:
    with pytest.raises(ValueError, match=r"coords must have shape \[..., 2\]"):
        dark_jax.encode(coords, size=(4, 4))


@pytest.mark.parametrize("size", [[5, 4], np.array([5, 4]), (np.int64(5), np.int32(4))])
def test_lists_and_numpy_sizes(size: Any) -> None:
    coords = np.array([[1.0, 2.0]])
    np.testing.assert_array_equal(
        dark_jax.encode(coords, size=size), dark_jax.encode(coords, size=(5, 4))
    )


@pytest.mark.parametrize(("axes", "leading"), [((-1,), (2,)), ((-4, -3, -2), (2,))], ids=str)
def test_decode_finds_it_again_in_any_dimension_and_layout(
    axes: tuple[int, ...], leading: tuple[int, ...]
) -> None:
    """This is for rows, and for volumes with channels last. ``test_round_trip`` is for maps."""
    dim = len(axes)
    size = (24, 26, 28)[-dim:]
    coords = synthetic.rng(dim).uniform(9, 13, (*leading, dim)).astype(np.float32)
    maps = dark_jax.encode(coords, size=size, sigma=1.8, axes=axes)
    found = dark_jax.decode(maps, kernel_size=5, axes=axes)
    np.testing.assert_allclose(found.coords, coords, rtol=0, atol=1e-3)


@pytest.mark.parametrize("quantize", [False, True])
def test_channels_last_is_channels_first_moved(quantize: bool) -> None:
    coords = synthetic.centres(0, 6, (16, 12), margin=1.0).astype(np.float32).reshape(2, 3, 2)
    options: dict[str, Any] = {"sigma": np.array([[1.0], [2.0], [3.0]], np.float32)}
    options |= {"size": (16, 12), "quantize": quantize}
    plain = np.asarray(dark_jax.encode(coords, **options))
    moved = dark_jax.encode(coords, axes=(-3, -2), **options)
    # The last bit of an exponential depends on the layout it is vectorised in.
    expected = np.moveaxis(plain, 1, -1)
    np.testing.assert_allclose(moved, expected, rtol=0, atol=tolerances.COMPILED)


@pytest.mark.parametrize("kind", [tuple, list, np.array, jnp.array])
def test_a_row_is_a_sigma_for_each_axis(kind: Callable[[Any], Any]) -> None:
    """The row may be a tuple, a list or an array."""
    sigma = kind([3.0, 2.0, 1.0])
    volume = np.asarray(
        dark_jax.encode(np.array([4.0, 3.0, 2.0]), size=(5, 7, 9), sigma=sigma, axes=(-3, -2, -1))
    )
    expected = np.exp([-1 / 18, -1 / 8, -1 / 2])
    np.testing.assert_allclose(
        [volume[2, 3, 5], volume[2, 4, 4], volume[3, 3, 4]], expected, rtol=1e-6
    )


def test_sigma_broadcasts_as_numpy_s_operands_do() -> None:
    """Sigmas of joints, axes or both broadcast to the coordinates."""
    coords = np.full((2, 3, 2), 8, np.float32)
    for sigma in (1.5, [1.0, 2.0], [[1.0], [2.0], [3.0]], [[[1.0, 2.0]], [[3.0, 1.5]]]):
        drawn = np.asarray(dark_jax.encode(coords, size=(17, 17), sigma=sigma))
        x, y = np.moveaxis(np.broadcast_to(sigma, coords.shape), -1, 0)
        np.testing.assert_allclose(drawn[..., 8, 10], np.exp(-2 / x**2), rtol=1e-6)
        np.testing.assert_allclose(drawn[..., 10, 8], np.exp(-2 / y**2), rtol=1e-6)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"coords": np.ones(3)}, r"coords must have shape \[..., 2\], got \(3,\)"),
        ({"axes": (-3, -2, -1)}, r"coords must have shape \[..., 3\], got \(2,\)"),
        ({"axes": (-1,), "coords": np.ones(1)}, r"size must be \(W,\), got \(4, 5\)"),
        ({"axes": (-1, -2)}, "axes must be in increasing order"),
        ({"axes": (-3, -2)}, r"the heatmaps must have axes \(-3, -2\), got shape \(4, 5\)"),
        ({"sigma": (1.0, 2.0, 3.0)}, r"sigma must broadcast to \(2,\), got shape \(3,\)"),
    ],
)
def test_bad_layouts_are_named(arguments: dict[str, Any], message: str) -> None:
    options: dict[str, Any] = {"coords": np.ones(2), "size": (4, 5)} | arguments
    with pytest.raises(ValueError, match=message):
        dark_jax.encode(options.pop("coords"), **options)
