"""The width of a batch's blobs: from any place, any layout, noise and a few bad maps."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import dark_jax
from tests.support import synthetic
from tests.support.cases import slow_but

SIZE = (64, 48)


@pytest.mark.parametrize("noise", slow_but([0.02, 0.1], [0.0, 0.02, 0.1]))
@pytest.mark.parametrize("sigma", slow_but([1.0, 6.0], [1.0, 1.5, 2.0, 3.0, 6.0]))
def test_within_two_percent(sigma: float, noise: float) -> None:
    """Centres anywhere on the map, and all of them within three pixels of an edge."""
    anywhere, _ = synthetic.gaussians(0, 120, SIZE, sigma=sigma, noise=noise, margin=0.0)
    edges = synthetic.border(1, SIZE, sigma=sigma)[0][::5][:120]
    edges += np.float32(noise) * synthetic.noise(2, len(edges), SIZE, zero_mean=True)
    for maps in (anywhere, edges):
        assert abs(float(dark_jax.estimate_sigma(maps)) / sigma - 1) < 0.02


def test_of_each_joint() -> None:
    sigmas = np.array([1.0, 2.5, 4.0], np.float32)
    points = synthetic.centres(3, 60, SIZE, margin=3.0).astype(np.float32).reshape(20, 3, 2)
    maps = dark_jax.encode(points, size=SIZE, sigma=sigmas)
    found = dark_jax.estimate_sigma(maps, joint_axis=1)
    np.testing.assert_allclose(found, sigmas, rtol=1e-3)


@pytest.mark.slow
def test_of_each_joint_of_other_layouts() -> None:
    sigmas = np.array([1.0, 2.5, 4.0], np.float32)
    points = synthetic.centres(3, 60, SIZE, margin=3.0).astype(np.float32).reshape(20, 3, 2)
    maps = dark_jax.encode(points, size=SIZE, sigma=sigmas)
    last = jnp.moveaxis(maps, 1, -1)
    found = dark_jax.estimate_sigma(last, joint_axis=-1, axes=(-3, -2))
    np.testing.assert_allclose(found, sigmas, rtol=1e-3)
    one_image = dark_jax.estimate_sigma(maps[0], joint_axis=0)
    np.testing.assert_allclose(one_image, sigmas, rtol=1e-3)


def test_a_few_bad_maps_do_not_matter() -> None:
    """Two of five are empty, noise, NaN, flat or hold a much wider blob; scale does not count."""
    maps, _ = synthetic.gaussians(4, 60, SIZE, sigma=2.0, noise=0.02)
    bad = [*synthetic.degenerate(SIZE).values(), *synthetic.noise(5, 8, SIZE, zero_mean=True)]
    wide, _ = synthetic.gaussians(6, 8, SIZE, sigma=5.0)
    for scale in (1.0, 255.0, 1e-20):
        together = np.concatenate([maps, np.stack(bad), wide]) * np.float32(scale)
        assert abs(float(dark_jax.estimate_sigma(together)) / 2.0 - 1) < 0.05


@pytest.mark.parametrize("background", [0.3, None])
def test_background(background: float | None) -> None:
    maps, _ = synthetic.gaussians(7, 120, SIZE, sigma=2.0, noise=0.02)
    found = dark_jax.estimate_sigma(maps + np.float32(0.3), background=background)
    assert abs(float(found) / 2.0 - 1) < 0.02


@pytest.mark.parametrize("axes", slow_but([(-1,)], [(-1,), (-3, -2, -1)]), ids=str)
def test_any_dimension(axes: tuple[int, ...]) -> None:
    dim = len(axes)
    points = synthetic.rng(8).uniform(6, 18, (20, dim)).astype(np.float32)
    maps = dark_jax.encode(points, size=(26, 28, 30)[:dim], sigma=1.5, axes=axes)
    found = dark_jax.estimate_sigma(maps, max_sigma=3.0, axes=axes)
    assert abs(float(found) / 1.5 - 1) < 1e-3


def test_nothing_there_is_infinite() -> None:
    maps = synthetic.noise(9, 20, SIZE, zero_mean=True)
    maps[:10] = 0
    assert np.isinf(dark_jax.estimate_sigma(maps))
    assert np.isinf(dark_jax.estimate_sigma(maps[0]))


@pytest.mark.slow
def test_what_decode_fit_takes() -> None:
    """A tracer as well: estimated and used in one jit."""
    maps, points = synthetic.gaussians(10, 60, SIZE, sigma=2.0, noise=0.02, margin=8.0)

    @jax.jit
    def both(values: jax.Array) -> dark_jax.Keypoints:
        return dark_jax.decode_fit(values, sigma=dark_jax.estimate_sigma(values), radius=5)

    known = dark_jax.decode_fit(maps, sigma=2.0)
    errors = [np.linalg.norm(np.asarray(k.coords) - points, axis=1) for k in (both(maps), known)]
    assert errors[0].mean() < 1.02 * errors[1].mean()


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"joint_axis": 1}, ValueError, r"joint_axis must be one of \[0\].* got 1"),
        ({"joint_axis": 0.5}, TypeError, "joint_axis must be an axis, got 0.5"),
        ({"max_sigma": 0}, ValueError, "max_sigma must be a positive, finite number, got 0"),
        ({"background": np.ones(3)}, ValueError, r"background must broadcast to \(2,\)"),
        ({"axes": (0, 5)}, ValueError, r"heatmaps must have axes \(0, 5\)"),
    ],
)
def test_bad_arguments_are_named(
    arguments: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        dark_jax.estimate_sigma(np.ones((2, 8, 8)), **arguments)
