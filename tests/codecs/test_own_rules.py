"""Fields of rules in combinations that no published rule has, and rules on awkward maps."""

import dataclasses
from typing import Any

import numpy as np
import pytest

import dark_jax
from dark_jax import Status, rules
from tests.support import published, synthetic

SIZE = (20, 20)
# A Newton step on the map itself, without the limits of CAFFE2.
PLAIN = dataclasses.replace(
    rules.CAFFE2, name="PLAIN", score_at_step=False, least_det=0.0, largest_component=None
)


def blob(x: float, y: float, sigma: float = 1.5) -> np.ndarray:
    return synthetic.draw(np.array([[x, y]]), SIZE, sigma=sigma)[0].astype(np.float32)


def coords(heatmap: np.ndarray, rule: rules.Rule, **fields: Any) -> np.ndarray:
    mine = dataclasses.replace(rule, name="MINE", **fields)
    return np.asarray(dark_jax.decode(heatmap, rule=mine).coords, np.float64)


class TestGuards:
    def test_a_guard_for_each_axis(self) -> None:
        """The peak is at the last column but one, so only y may move."""
        heatmap = blob(18.2, 9.3)
        full = coords(heatmap, rules.DARKPOSE, margin=(1, 1))
        found = coords(heatmap, rules.DARKPOSE, margin_across=(0, 0))
        np.testing.assert_allclose(found, [18, full[1]], atol=1e-6)
        assert found[1] != 9
        shifted = coords(
            heatmap, rules.DARKPOSE, margin_across=(0, 0), shift=100.0, shift_at_edge=1000.0
        )
        np.testing.assert_allclose(shifted, found + np.array([1000, 100]), atol=1e-4)

    @pytest.mark.parametrize("margin", [(0, 0), (1, 1), (2, 1), (2, 0)], ids=str)
    def test_edges_are_repeated_whatever_the_margin(self, margin: tuple[int, int]) -> None:
        """The stencil reaches two pixels, and there is one behind the peak."""
        heatmap, fields = blob(18.2, 9.0), {"stencil": rules.TAYLOR, "clip_infinity": False}
        expected = coords(heatmap, rules.VITPOSE, **fields)
        found = coords(heatmap, rules.VITPOSE, margin=margin, **fields)
        np.testing.assert_array_equal(found, expected)

    @pytest.mark.parametrize("peak_of_blurred", [True, False])
    def test_edges_are_repeated_for_a_fixed_step(self, peak_of_blurred: bool) -> None:
        """The edge pixel is higher than the one before it, so the step leads outwards."""
        heatmap = blob(19.4, 9.0)
        found = coords(
            heatmap,
            rules.MEGVII,
            margin=(0, 0),
            shift=0.0,
            padding=rules.Padding.REFLECT,
            peak_of_blurred=peak_of_blurred,
        )
        np.testing.assert_array_equal(found, [19.25, 9])


class TestWithoutLogarithm:
    def test_a_ridge_has_the_scale_of_the_map(self) -> None:
        heatmap = blob(9.4, 9.2)
        one = coords(heatmap, PLAIN, ridge=0.2)
        many = coords(64 * heatmap, PLAIN, ridge=12.8)
        np.testing.assert_allclose(one, many, atol=1e-5)
        f = heatmap[8:11, 8:11].astype(np.float64)
        gradient = np.array([f[1, 2] - f[1, 0], f[2, 1] - f[0, 1]]) / 2
        mixed = (f[2, 2] - f[2, 0] - f[0, 2] + f[0, 0]) / 4
        hessian = np.array(
            [[f[1, 0] - 2 * f[1, 1] + f[1, 2], mixed], [mixed, f[0, 1] - 2 * f[1, 1] + f[2, 1]]]
        )
        step = -np.linalg.solve(hessian + 0.2 * np.eye(2), gradient)
        np.testing.assert_allclose(one, 9 + step, atol=1e-5)

    def test_a_rescaled_map_has_its_scale(self) -> None:
        """The determinant of this map is above the limit only after it is rescaled."""
        heatmap = np.zeros(SIZE, np.float32)
        heatmap[9, 9:11] = 1, 0.6
        fields = {
            "kernel": rules.GUARDED.kernel,
            "kernel_size": 11,
            "clip_infinity": False,
            "padding": rules.Padding.ZEROS,
            "least_det": 3e-3,
        }
        assert coords(heatmap, PLAIN, **fields)[0] == 9
        rescaled = coords(heatmap, PLAIN, **fields, rescale=rules.Rescale.TO_OLD_MAXIMUM)
        assert 9.3 < rescaled[0] < 9.4

    @pytest.mark.parametrize("peak", [1e-10, 1e-6, 0.0, -1e-10])
    def test_a_peak_far_below_its_neighbours(self, peak: float) -> None:
        heatmap = np.full((7, 7), -1, np.float32)
        heatmap[3, 3:5] = peak, -0.5
        expected = published.answers(heatmap[None], 1, "CAFFE2")
        found = dark_jax.decode(heatmap, rule=rules.CAFFE2)
        np.testing.assert_allclose(found.coords, expected["coords"][0], atol=1e-5)
        np.testing.assert_allclose(found.scores, expected["maxval"][0], atol=1e-6)

    @pytest.mark.parametrize("rule", [rules.CAFFE2, rules.FAN, rules.MMPOSE_MSRA], ids=str)
    def test_the_largest_numbers(self, rule: rules.Rule) -> None:
        heatmap = blob(9.3, 9.2)
        expected = coords(heatmap, rule)
        np.testing.assert_allclose(coords(np.float32(2e38) * heatmap, rule), expected, atol=1e-4)


def test_a_map_that_megvii_flips() -> None:
    """The maximum is above zero and that of the blurred map is not, so the factor is negative."""
    y, x = np.mgrid[:20, :20]
    heatmap = (0.4 - 0.15 * ((x - 8.3) ** 2 + (y - 11.7) ** 2)).astype(np.float32)
    expected = published.answers(heatmap[None], 11, "MEGVII")["coords"][0]
    found = dark_jax.decode(heatmap, rule=rules.MEGVII)
    np.testing.assert_array_equal(found.coords, expected)
    assert np.linalg.norm(expected - [8.3, 11.7]) > 5
    assert found.status == Status.NOT_CONCAVE


def test_visibilities_that_float32_does_not_hold() -> None:
    with pytest.raises(ValueError, match="beta times sigma must be"):
        dark_jax.simcc_visibility(np.ones((1, 4)), np.ones((1, 4)), sigma=1e37)
