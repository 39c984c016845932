"""The width of the blobs in a batch, in any place and layout, with noise and a few bad maps."""

from typing import Any

import jax
import numpy as np
import pytest

import dark_jax
from tests.support import synthetic
from tests.support.cases import slow_but

SIZE = (64, 48)
COUNT = 120


def of_both(*maps: np.ndarray, **options: Any) -> np.ndarray:
    """The sigmas of two joints with COUNT maps each. All tests of large maps share the program."""
    assert [len(values) for values in maps] == [COUNT, COUNT]
    return np.asarray(dark_jax.estimate_sigma(np.stack(maps, axis=1), joint_axis=1, **options))


@pytest.mark.parametrize("noise", slow_but([0.02, 0.1], [0.0, 0.02, 0.1]))
@pytest.mark.parametrize("sigma", slow_but([1.0, 6.0], [1.0, 1.5, 2.0, 3.0, 6.0]))
def test_within_two_percent(sigma: float, noise: float) -> None:
    """One joint has centres anywhere on the map, the other within three pixels of an edge."""
    anywhere, _ = synthetic.gaussians(0, COUNT, SIZE, sigma=sigma, noise=noise, margin=0.0)
    edges = synthetic.border(1, SIZE, sigma=sigma)[0][::5][:COUNT]
    edges += np.float32(noise) * synthetic.noise(2, len(edges), SIZE, zero_mean=True)
    assert (np.abs(of_both(anywhere, edges) / sigma - 1) < 0.02).all()


def test_of_each_joint() -> None:
    sigmas = (1.0, 4.0)
    maps = [synthetic.gaussians(3, COUNT, SIZE, sigma=sigma)[0] for sigma in sigmas]
    np.testing.assert_allclose(of_both(*maps), sigmas, rtol=1e-3)


@pytest.mark.slow
def test_of_each_joint_of_other_layouts() -> None:
    """The median is over axes on both sides of the map axes, and joints are last."""
    sigmas = (1.0, 2.5, 4.0)
    joints = [synthetic.gaussians(3, 20, SIZE, sigma=sigma)[0] for sigma in sigmas]
    maps = np.stack(joints, axis=-1).reshape(10, 2, *SIZE, 3)
    maps = np.moveaxis(maps, 1, 3)
    found = dark_jax.estimate_sigma(maps, joint_axis=-1, axes=(-4, -3))
    np.testing.assert_allclose(found, sigmas, rtol=1e-3)


def test_a_few_bad_maps_do_not_matter() -> None:
    """Two of five maps are empty, noise, NaN, flat or a much wider blob. Scale does not matter."""
    bad = np.stack(list(synthetic.degenerate(SIZE).values()))
    wide, _ = synthetic.gaussians(6, 12, SIZE, sigma=5.0)
    noise = synthetic.noise(5, 48 - len(bad) - len(wide), SIZE, zero_mean=True)
    maps, _ = synthetic.gaussians(4, COUNT - 48, SIZE, sigma=2.0, noise=0.02)
    together = np.concatenate([maps, bad, noise, wide])
    for scales in ((1.0, 255.0), (1e-20, 1.0)):
        found = of_both(*(together * np.float32(scale) for scale in scales))
        assert (np.abs(found / 2.0 - 1) < 0.05).all()


def test_background() -> None:
    maps, _ = synthetic.gaussians(7, COUNT, SIZE, sigma=2.0, noise=0.02)
    maps += np.float32(0.3)
    known = of_both(maps, maps, background=0.3)
    fitted = dark_jax.estimate_sigma(maps, background=None)
    assert (np.abs(np.append(known, fitted) / 2.0 - 1) < 0.02).all()


@pytest.mark.parametrize("axes", slow_but([(-1,)], [(-1,), (-3, -2, -1)]), ids=str)
def test_a_single_map_of_any_dimension(axes: tuple[int, ...]) -> None:
    """A single map is enough. The sigma of an empty one is infinite."""
    dim = len(axes)
    points = synthetic.rng(8).uniform(6, 18, (20, dim)).astype(np.float32)
    maps = np.asarray(dark_jax.encode(points, size=(26, 28, 30)[:dim], sigma=1.5, axes=axes))
    for heatmap in maps:
        found = float(dark_jax.estimate_sigma(heatmap, max_sigma=3.0, axes=axes))
        assert abs(found / 1.5 - 1) < 1e-3
    assert np.isinf(dark_jax.estimate_sigma(np.zeros_like(maps[0]), max_sigma=3.0, axes=axes))


OVALS = [(1.5,), (2.0, 1.2), (2.0, 2.0, 1.0)]


@pytest.mark.parametrize("sigma", slow_but([OVALS[1]], OVALS), ids=str)
def test_one_an_axis(sigma: tuple[float, ...]) -> None:
    """Each axis of each joint has its own sigma, in coordinate order. A common one lies between."""
    axes, size = tuple(range(-len(sigma), 0)), (20, 26, 30)[-len(sigma) :]
    points = synthetic.rng(9).uniform(4, 15, (2, 15, len(sigma))).astype(np.float32)
    noise = synthetic.rng(10).normal(0, 0.05, (2, 15, *size)).astype(np.float32)
    wider = np.array([[1.0], [1.5]]) * sigma
    maps = np.asarray(dark_jax.encode(points, size=size, sigma=wider[:, None], axes=axes))
    options: dict[str, Any] = {"joint_axis": 0, "per_axis": True, "axes": axes}
    for values, rtol in ((maps, 1e-3), (maps + noise, 0.03)):
        found = dark_jax.estimate_sigma(values, **options)
        np.testing.assert_allclose(found, wider, rtol=rtol)
    alone = np.asarray(dark_jax.estimate_sigma(maps[0], per_axis=True, axes=axes))
    np.testing.assert_allclose(alone, sigma, rtol=1e-3)
    fitted = dark_jax.decode_fit(maps[0], sigma=alone, axes=axes)
    np.testing.assert_allclose(fitted.coords, points[0], rtol=0, atol=1e-3)
    assert min(sigma) - 0.01 < dark_jax.estimate_sigma(maps[0], axes=axes) < max(sigma) + 0.01
    nothing = dark_jax.estimate_sigma(0 * maps, **options)
    assert nothing.shape == (2, len(sigma))
    assert np.isinf(nothing).all()


def test_nothing_there_is_infinite() -> None:
    """One joint has only noise and empty maps. The other joint has blobs."""
    maps = synthetic.noise(9, COUNT, SIZE, zero_mean=True)
    maps[: COUNT // 2] = 0
    blobs, _ = synthetic.gaussians(7, COUNT, SIZE, sigma=2.0, noise=0.02)
    nothing, sigma = of_both(maps, blobs)
    assert np.isinf(nothing)
    assert np.isfinite(sigma)


@pytest.mark.slow
def test_what_decode_fit_takes() -> None:
    """The estimate may be a tracer that is made and used in one jit."""
    maps, points = synthetic.gaussians(10, 60, SIZE, sigma=2.0, noise=0.02, margin=8.0)

    @jax.jit
    def both(values: jax.Array) -> tuple[jax.Array, jax.Array]:
        estimated = dark_jax.decode_fit(values, sigma=dark_jax.estimate_sigma(values), radius=5)
        return estimated.coords, dark_jax.decode_fit(values, sigma=2.0).coords

    errors = [np.linalg.norm(np.asarray(coords) - points, axis=1) for coords in both(maps)]
    assert errors[0].mean() < 1.02 * errors[1].mean()


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"joint_axis": 1}, ValueError, r"joint_axis must be one of \[0\].* got 1"),
        ({"per_axis": "z"}, TypeError, "per_axis must be True or False, got 'z'"),
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
