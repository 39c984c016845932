"""SimCC bins against the answers of mmpose, and the score and status of two axes."""

from typing import Any

import numpy as np
import pytest

import dark_jax
from dark_jax import Status, rules
from tests.golden import homes
from tests.support import oracle, synthetic, tolerances
from tests.support.cases import slow_but


@pytest.fixture(scope="module")
def golden() -> dict[str, np.ndarray]:
    with np.load(homes.FILE) as arrays:
        return dict(arrays)


@pytest.mark.parametrize(
    "kernel",
    slow_but([11], homes.SIMCC_KERNELS),
)
def test_home(golden: dict[str, np.ndarray], kernel: int) -> None:
    """The bins are Gaussian, noisy, at borders, tied, low and high."""
    x, y = golden["bins/x"], golden["bins/y"]
    found = dark_jax.decode_simcc(x, y, kernel_size=kernel)
    np.testing.assert_array_equal(found.scores, golden["bins/scores"])
    coords = 2 * np.asarray(found.coords)
    error = np.abs(coords - golden[f"MMPOSE_SIMCC_DARK/{kernel}"])
    for axis, bins in enumerate((x, y)):
        answers = oracle.answers(bins, kernel, "MMPOSE_SIMCC_DARK")
        limit = tolerances.WELL_CONDITIONED
        well = (answers["eigenvalue"] >= limit["eigenvalue"]) & (answers["step"] <= limit["step"])
        assert well.sum() > 0.6 * len(bins)
        assert error[well, axis].max() <= tolerances.HOME
        exact = np.abs(coords[:, axis] - answers["coords"][:, 0])
        assert exact[well].max() <= tolerances.HOME


def gaussian_bins(centres: list[float], size: int) -> np.ndarray:
    points = np.stack([centres, np.zeros(len(centres))], axis=-1)
    return synthetic.draw(points, (1, size), sigma=6.0)[:, 0].astype(np.float32)


@pytest.mark.parametrize(
    ("rule", "leading"), [(rules.MMPOSE_SIMCC_DARK, (2, 3)), (rules.GUARDED, ())], ids=str
)
def test_coordinates_are_pixels_of_the_input(rule: rules.Rule, leading: tuple[int, ...]) -> None:
    """This holds for any leading axes."""
    count = int(np.prod(leading))
    centres = synthetic.rng(0).uniform(20, 70, (count, 2))
    x, y = gaussian_bins([*centres[:, 0]], 90), gaussian_bins([*centres[:, 1]], 100)
    x, y = x.reshape(*leading, 90), y.reshape(*leading, 100)
    found = dark_jax.decode_simcc(x, y, rule=rule, kernel_size=(11, 13), split_ratio=4.0)
    np.testing.assert_allclose(found.coords, centres.reshape(*leading, 2) / 4, atol=2e-3)
    assert found.status.shape == leading
    assert (np.asarray(found.status) == Status.REFINED).all()


def test_the_lower_maximum_is_the_score_and_decides(golden: dict[str, np.ndarray]) -> None:
    """If no x bin is above zero, both coordinates are the sentinel, -1 bins, whatever y is."""
    count = len(golden["bins/x"])
    x, y = gaussian_bins([60.4] * count, 96), gaussian_bins([70.2] * count, 128)
    x[0] *= 0.5
    x[1] = 0
    y[2, 0] = np.nan
    found = dark_jax.decode_simcc(x, y, kernel_size=11)
    np.testing.assert_array_equal(np.asarray(found.scores)[:3], [x[0].max(), 0, np.nan])
    np.testing.assert_array_equal(np.asarray(found.coords)[1:3], np.full((2, 2), -0.5))
    expected = [Status.REFINED, Status.NO_PEAK, Status.NOT_FINITE]
    np.testing.assert_array_equal(np.asarray(found.status)[:3], expected)


def test_no_keypoints() -> None:
    found = dark_jax.decode_simcc(np.ones((0, 3, 20)), np.ones((0, 3, 30)))
    assert found.coords.shape == (0, 3, 2)
    assert found.status.shape == (0, 3)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"y_bins": np.ones((3, 9))}, ValueError, r"same leading axes, got shapes \(2, 8\)"),
        ({"x_bins": 1.0}, ValueError, "x_bins must have axes"),
        ({"x_bins": np.ones((2, 0))}, ValueError, "x_bins must have maps of at least one"),
        ({"kernel_size": (3, 5, 7)}, ValueError, r"kernel_size must be .* got \(3, 5, 7\)"),
        ({"kernel_size": (3, 4)}, ValueError, "kernel_size must be an odd integer"),
        ({"rule": rules.VITPOSE}, ValueError, "rule VITPOSE is for maps of dimension 2, got 1"),
        ({"split_ratio": 0}, ValueError, "split_ratio must be a positive"),
    ],
)
def test_bad_arguments_are_named(
    arguments: dict[str, Any], error: type[Exception], message: str
) -> None:
    options: dict[str, Any] = {"x_bins": np.ones((2, 8)), "y_bins": np.ones((2, 9))} | arguments
    with pytest.raises(error, match=message):
        dark_jax.decode_simcc(options.pop("x_bins"), options.pop("y_bins"), **options)
