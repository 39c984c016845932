"""Scores along a line and in volumes, by hand and compared with those in the plane."""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np
import pytest

from dark_jax import metrics
from tests.support import synthetic

METRICS: dict[str, Callable[..., jax.Array]] = {
    "oks": lambda c, t, **k: metrics.oks(c, t, area=900.0, sigmas=0.05, **k),
    "pck": lambda c, t, **k: metrics.pck(c, t, threshold=3.0, **k),
    "auc": lambda c, t, **k: metrics.auc(c, t, thresholds=(1.0, 2.0, 4.0), **k),
    "epe": metrics.epe,
    "nme": lambda c, t, **k: metrics.nme(c, t, normalize=4.0, **k),
}


def poses(dim: int) -> tuple[np.ndarray, np.ndarray]:
    rng = synthetic.rng(dim)
    truth = rng.uniform(0, 100, (2, 5, dim)).astype(np.float32)
    return truth + rng.normal(0, 2, truth.shape).astype(np.float32), truth


class TestByHand:
    """Distances are 2 and 6 pixels along a line, and 3 and 7 pixels in a volume."""

    line = (np.array([[12.0], [4.0]]), np.array([[10.0], [10.0]]))
    volume = (np.array([[1.0, 2.0, 2.0], [6.0, -2.0, 3.0]]), np.zeros((2, 3)))

    def test_errors(self) -> None:
        assert float(metrics.epe(*self.line)) == 4
        assert float(metrics.epe(*self.volume)) == 5
        assert float(metrics.nme(*self.line, normalize=8.0)) == 0.5
        assert float(metrics.nme(*self.volume, normalize=2.5)) == 2

    def test_correct(self) -> None:
        """A distance equal to the threshold is wrong."""
        assert float(metrics.pck(*self.line, threshold=2.0)) == 0
        assert float(metrics.pck(*self.line, threshold=2.5)) == 0.5
        assert float(metrics.pck(*self.volume, threshold=3.0)) == 0
        assert float(metrics.pck(*self.volume, threshold=3.5)) == 0.5
        assert float(metrics.auc(*self.line, thresholds=(1.0, 3.0, 5.0, 7.0))) == 0.5
        assert float(metrics.auc(*self.volume, thresholds=(1.0, 4.0, 6.0, 8.0))) == 0.5

    def test_oks(self) -> None:
        """A joint scores exp(-d^2 / (2 area (2 sigma)^2)), for any number of axes."""
        found = metrics.oks(*self.line, area=8.0, sigmas=0.5)
        assert float(found) == pytest.approx((np.exp(-4 / 16) + np.exp(-36 / 16)) / 2, rel=1e-6)
        found = metrics.oks(*self.volume, area=49.0, sigmas=0.5)
        assert float(found) == pytest.approx((np.exp(-9 / 98) + np.exp(-0.5)) / 2, rel=1e-6)


@pytest.mark.parametrize("name", METRICS)
class TestEach:
    @pytest.mark.parametrize("dim", [1, 2])
    def test_more_axes_that_agree_change_nothing(self, name: str, dim: int) -> None:
        coords, truth = poses(dim)
        expected = METRICS[name](coords, truth)
        more = [np.pad(each, [(0, 0), (0, 0), (0, 3 - dim)]) for each in (coords, truth)]
        np.testing.assert_allclose(METRICS[name](*more), expected, rtol=1e-6)
        under = jax.jit(jax.vmap(METRICS[name]))(*more)
        np.testing.assert_allclose(under, expected, rtol=1e-6)

    @pytest.mark.parametrize("dim", [1, 3])
    def test_gradients_are_finite(self, name: str, dim: int) -> None:
        """Gradients are finite at the truth, at unknown truth and if a square overflows."""
        coords, truth = poses(dim)
        coords[0, 0], coords[0, 1], truth[0, 2] = truth[0, 0], 1e30, np.nan

        def total(coords: Any) -> jax.Array:
            return METRICS[name](coords, truth).sum()

        found, gradient = jax.jit(jax.value_and_grad(total))(coords)
        assert np.isfinite(found)
        assert np.isfinite(gradient).all()
        assert not np.asarray(gradient)[0, [0, 2]].any()

    @pytest.mark.parametrize("dim", [1, 3])
    def test_nobody(self, name: str, dim: int) -> None:
        assert METRICS[name](np.zeros((0, 5, dim)), np.zeros((0, 5, dim))).shape == (0,)
        assert METRICS[name](np.zeros((2, 0, dim)), np.zeros((2, 0, dim))).tolist() == [0, 0]

    def test_dimensions_do_not_broadcast(self, name: str) -> None:
        """The error states both shapes. Coordinates of one axis do not broadcast either."""
        pose = np.zeros((4, 5, 3))
        for dim in (1, 2):
            message = rf"truth must have .* coords, got shapes \(4, 5, {dim}\) and \(4, 5, 3\)"
            with pytest.raises(ValueError, match=message):
                METRICS[name](pose, pose[..., :dim])
        with pytest.raises(ValueError, match=r"coords .*, dim from 1 to 3, got \(4, 5, 0\)"):
            METRICS[name](pose[..., :0], pose[..., :0])


def test_boxes_are_of_the_plane() -> None:
    pose = np.zeros((5, 3))
    with pytest.raises(ValueError, match=r"coords must have shape \[\.\.\., J, 2\], got \(5, 3\)"):
        metrics.pckh(pose, pose, head_boxes=np.ones(4), threshold=0.5)
