"""Scores that others have published."""

from typing import Any

import jax
import numpy as np
import pytest

from dark_jax import metrics


class TestPublishedValues:
    """Inputs and results of the functional tests of mmpose 1.3."""

    visible = np.array([[True, True, False, True, True]])

    def test_pck(self) -> None:
        coords, truth = np.zeros((2, 5, 2)), np.zeros((2, 5, 2))
        coords[0] = [[10, 0], [20, 20], [0, 0], [30, 30], [0, 10]]
        truth[0] = [[10, 0], [10, 10], [-1, 0], [30, 30], [0, 10]]
        visible = np.repeat(self.visible, 2, axis=0)

        def pck(normalize: Any, axis: Any) -> jax.Array:
            return metrics.pck(
                coords, truth, threshold=0.5, normalize=normalize, visible=visible, axis=axis
            )

        assert pck(10.0, 0).tolist() == [1, 0.5, 0, 1, 1]
        assert np.asarray(pck(10.0, 0))[visible[0]].mean() == 0.875
        assert float(pck(10.0, None)) == 0.875
        assert pck(0.0, 0).tolist() == [0, 0, 0, 0, 0]
        assert float(pck(0.0, None)) == 0
        assert pck(np.array([0.0, 10.0]), 0).tolist() == [1, 1, 0, 1, 1]

    coords = np.array([[[10, 4], [10, 18], [0, 0], [40, 40], [20, 10]]])
    truth = np.array([[[10, 0], [10, 10], [0, -1], [30, 30], [0, 10]]])

    def test_auc(self) -> None:
        found = metrics.auc(
            self.coords,
            self.truth,
            thresholds=np.arange(4) / 4,
            normalize=20.0,
            visible=self.visible,
        )
        assert found.tolist() == [0.375]

    def test_errors(self) -> None:
        for metric in (metrics.epe, lambda *a, **k: metrics.nme(*a, normalize=1.0, **k)):
            (found,) = metric(self.coords, self.truth, visible=self.visible).tolist()
            assert found == pytest.approx(11.5355339, abs=1e-6)
