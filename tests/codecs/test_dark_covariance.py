"""The covariance of ``decode`` is right in the interior and infinite where it is unknown."""

import functools
from typing import Any

import jax
import numpy as np
import pytest

import dark_jax
from dark_jax import Status
from dark_jax._ops.gaussian import opencv_kernel
from dark_jax._ops.pixels import box
from dark_jax._ops.stencil import TAYLOR
from dark_jax._ops.window import blurred, gram
from tests.support import synthetic
from tests.support.batches import in_batches
from tests.support.by_hand import covariance_of
from tests.support.cases import slow_but

SIZE = (64, 48)


def decoded(maps: np.ndarray, **options: Any) -> dark_jax.Keypoints:
    options = {"covariance": True} | options
    return in_batches(functools.partial(dark_jax.decode, **options), maps, size=200)


def deviation(maps: np.ndarray) -> np.ndarray:
    return np.sqrt(np.trace(covariance_of(decoded(maps)), axis1=-2, axis2=-1))


COVERAGE_CASES = [
    *[({"blur_sigma": s}, s, noise) for s, noise in ((2.0, 0.1), (1.0, 0.01), (3.0, 0.01))],
    *[({"kernel_size": 11}, s, noise) for s, noise in ((1.0, 0.1), (2.0, 0.01), (3.0, 0.1))],
    *[({}, s, noise) for s, noise in ((1.0, 0.1), (2.0, 0.01), (2.0, 0.1), (3.0, 0.01))],
]


@pytest.mark.parametrize(
    ("options", "sigma", "noise"),
    slow_but([({"blur_sigma": 2.0}, 2.0, 0.1)], COVERAGE_CASES, unpack=True),
)
def test_coverage(options: dict[str, Any], sigma: float, noise: float) -> None:
    """The ellipses hold as many of 5000 errors as they should. The noise level is not an input.

    With kernel 11, the width of a blob of sigma 1 is not always known.
    """
    maps, points = synthetic.gaussians(0, 5000, SIZE, sigma=sigma, noise=noise, margin=13.0)
    squared, known = synthetic.squared_deviations(decoded(maps, **options), points)
    assert known.mean() > 0.95
    assert abs((squared < 1).mean() - 0.393) < 0.03
    assert abs((squared < 4).mean() - 0.865) < 0.035
    assert abs(squared.mean() - 2) < 0.25


@pytest.mark.slow
@pytest.mark.parametrize(
    ("sigma", "noise", "within_one", "within_two"),
    [(3.0, 0.1, 0.35, 0.80), (1.0, 0.01, 0.32, 0.77)],
)
def test_coverage_of_the_default_kernel_is_low(
    sigma: float, noise: float, within_one: float, within_two: float
) -> None:
    """The kernel of 5 is too narrow for sigma 3, and biased for sigma 1 without noise."""
    maps, points = synthetic.gaussians(0, 5000, SIZE, sigma=sigma, noise=noise, margin=13.0)
    squared, _ = synthetic.squared_deviations(decoded(maps), points)
    assert abs((squared < 1).mean() - within_one) < 0.03
    assert abs((squared < 4).mean() - within_two) < 0.035


def test_shared_pixels_of_the_blurred_values() -> None:
    """The covariance of blurred values is the one that blurring single pixels gives."""
    kernels, offsets = (opencv_kernel(5),) * 2, TAYLOR.offsets(2)
    single = np.eye(len(box((4, 4))), dtype=np.float32)
    responses = np.asarray(jax.jit(jax.vmap(lambda v: blurred(v, kernels, offsets)))(single))
    np.testing.assert_allclose(gram(kernels, offsets), responses.T @ responses, atol=1e-7)


@pytest.mark.slow
def test_infinite_where_it_cannot_be_known() -> None:
    """The covariance is infinite for borders, for unrefined peaks and for too narrow blobs.

    The borders are within reach of the blur, and the narrow blob is only as wide as the blur.
    """
    edges, _ = synthetic.border(1, SIZE, sigma=2.0)
    bad = np.stack(list(synthetic.degenerate(SIZE).values()))
    for maps in (edges, bad):
        found = decoded(maps)
        unrefined = found.status != Status.REFINED
        assert np.isinf(covariance_of(found)[unrefined]).all()
    assert np.isinf(deviation(edges)).all()
    spike = synthetic.degenerate(SIZE)["spike"][None]
    assert np.isinf(deviation(spike)).all()
    assert decoded(spike, covariance=False).covariance is None


@pytest.mark.slow
def test_large_where_the_map_is_no_blob() -> None:
    clean, _ = synthetic.gaussians(2, 50, SIZE, sigma=2.0, noise=0.02, margin=12.0)
    two, _ = synthetic.second_peak(3, 50, SIZE, sigma=2.0, height=0.6, distance=5.0)
    inside = np.isfinite(deviation(two))
    assert inside.sum() > 20
    assert np.median(deviation(two)[inside]) > 1.5 * np.median(deviation(clean))


@pytest.mark.slow
@pytest.mark.parametrize("scale", [255.0, 1e-25, 1e25])
def test_scale_free(scale: float) -> None:
    maps, _ = synthetic.gaussians(4, 50, SIZE, sigma=2.0, noise=0.02, margin=12.0)
    np.testing.assert_allclose(deviation(maps * np.float32(scale)), deviation(maps), rtol=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize("axes", [(-1,), (-3, -2, -1)], ids=str)
def test_any_dimension(axes: tuple[int, ...]) -> None:
    """The mean squared error, in sigmas squared, is the number of axes."""
    dim = len(axes)
    points = synthetic.rng(5).uniform(11, 14, (300, dim)).astype(np.float32)
    maps = np.array(dark_jax.encode(points, size=(26, 26, 26)[:dim], sigma=1.5, axes=axes))
    maps += np.float32(0.02) * synthetic.rng(6).standard_normal(maps.shape).astype(np.float32)
    found = dark_jax.decode(maps, blur_sigma=1.5, covariance=True, axes=axes)
    squared, known = synthetic.squared_deviations(found, points)
    assert known.all()
    assert abs(squared.mean() / dim - 1) < 0.25


@pytest.mark.slow
def test_of_each_peak() -> None:
    single, _ = synthetic.gaussians(7, 4, SIZE, sigma=2.0, noise=0.02, margin=14.0)
    peaks = dark_jax.decode_peaks(
        single, max_peaks=2, threshold=0.5, min_distance=9, covariance=True
    )
    expected = covariance_of(decoded(single))
    np.testing.assert_allclose(np.asarray(peaks.covariance)[:, 0], expected, rtol=1e-4, atol=1e-8)
    assert np.isinf(np.asarray(peaks.covariance)[:, 1]).all()


def test_of_the_default_rule_alone() -> None:
    with pytest.raises(ValueError, match="covariance must be left out with rule HRNET"):
        dark_jax.decode(np.ones((8, 8)), rule=dark_jax.rules.HRNET, covariance=True)
    with pytest.raises(TypeError, match="covariance must be True or False, got 1"):
        dark_jax.decode(np.ones((8, 8)), covariance=1)  # pyright: ignore[reportArgumentType]
