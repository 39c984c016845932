"""SimCC bins against the answers of mmpose, and the score and status of two axes."""

from typing import Any

import numpy as np
import pytest

import dark_jax
from dark_jax import Status, rules
from tests.golden import homes
from tests.support import published, synthetic, tolerances
from tests.support.cases import slow_but

DARK = rules.MMPOSE_SIMCC_DARK


@pytest.fixture(scope="module")
def golden() -> dict[str, np.ndarray]:
    with np.load(homes.FILE) as arrays:
        return dict(arrays)


class TestHomes:
    """The bins are Gaussian, noisy, at borders, tied, low and high."""

    def test_plain(self, golden: dict[str, np.ndarray]) -> None:
        """Coordinates and scores are equal to the bit."""
        found = dark_jax.decode_simcc(golden["bins/x"], golden["bins/y"])
        np.testing.assert_array_equal(found.coords, golden["MMPOSE_SIMCC/coords"])
        np.testing.assert_array_equal(found.scores, golden["MMPOSE_SIMCC/scores"])
        expected = np.where(golden["MMPOSE_SIMCC/scores"] > 0, Status.REFINED, Status.NO_PEAK)
        np.testing.assert_array_equal(found.status, expected)

    def test_mean_score(self, golden: dict[str, np.ndarray]) -> None:
        found = dark_jax.decode_simcc(
            golden["bins/x"], golden["bins/y"], split_ratio=1, score="mean"
        )
        np.testing.assert_array_equal(found.coords, golden["rtmlib/bins"])
        np.testing.assert_array_equal(found.scores, golden["rtmlib/scores"])

    def test_visibility(self, golden: dict[str, np.ndarray]) -> None:
        """The sigma of mmpose's codec is 6 if it is not given."""
        found = dark_jax.simcc_visibility(golden["bins/x"], golden["bins/y"], sigma=6.0)
        # The exponents are some hundreds, where float32 has an error of 1e-5.
        np.testing.assert_allclose(found, golden["MMPOSE_SIMCC/visibility"], rtol=1e-4)
        assert golden["MMPOSE_SIMCC/visibility"].min() < 0.3

    @pytest.mark.parametrize("kernel", slow_but([11], homes.SIMCC_KERNELS))
    def test_dark(self, golden: dict[str, np.ndarray], kernel: int) -> None:
        x, y = golden["bins/x"], golden["bins/y"]
        found = dark_jax.decode_simcc(x, y, rule=DARK, kernel_size=kernel)
        np.testing.assert_array_equal(found.scores, golden["bins/scores"])
        coords = 2 * np.asarray(found.coords)
        error = np.abs(coords - golden[f"MMPOSE_SIMCC_DARK/{kernel}"])
        for axis, bins in enumerate((x, y)):
            answers = published.answers(bins, kernel, "MMPOSE_SIMCC_DARK")
            limit = tolerances.WELL_CONDITIONED
            well = (answers["eigenvalue"] >= limit["eigenvalue"]) & (
                answers["step"] <= limit["step"]
            )
            assert well.sum() > 0.6 * len(bins)
            assert error[well, axis].max() <= tolerances.HOME
            exact = np.abs(coords[:, axis] - answers["coords"][:, 0])
            assert exact[well].max() <= tolerances.HOME


@pytest.mark.parametrize("dtype", ["float16", "uint8"])
def test_coarse_types(golden: dict[str, np.ndarray], dtype: str) -> None:
    """Bins that tie give the first of them."""
    x, y = (np.clip(100 * golden[f"bins/{axis}"], 0, 255).astype(dtype) for axis in "xy")
    found = dark_jax.decode_simcc(x, y, split_ratio=1)
    scores = np.minimum(x.max(axis=1), y.max(axis=1)).astype(np.float32)
    expected = np.where(scores[:, None] > 0, np.stack([x.argmax(1), y.argmax(1)], axis=-1), -1)
    np.testing.assert_array_equal(found.coords, expected)
    np.testing.assert_array_equal(found.scores, scores)


def test_visibility_by_hand() -> None:
    """Each row has its sigma. A sum of two equal exponentials is 2; bins of 0 add nothing."""
    x, y = np.zeros((2, 9), np.float32), np.zeros((2, 12), np.float32)
    x[:, 3] = y[:, 7] = 1
    x[1, 4] = 1
    y[0, 2] = 1 - np.log(3) / (150 * 5)
    found = dark_jax.simcc_visibility(x, y, sigma=(4.0, 5.0))
    np.testing.assert_allclose(found, [0.75, 0.5], rtol=1e-4)
    low = dark_jax.simcc_visibility(x, y, sigma=1.0, beta=1e-6)
    np.testing.assert_allclose(low, [1 / 12] * 2, rtol=1e-4)


def test_a_negative_row_with_a_positive_mean() -> None:
    """Only the score decides about the sentinel, as in rtmlib."""
    x, y = -0.5 - np.arange(8.0)[None] / 10, np.zeros((1, 9))
    y[0, 4] = 2
    found = dark_jax.decode_simcc(x, y, score="mean", split_ratio=1)
    np.testing.assert_array_equal(found.coords, [[0, 4]])
    np.testing.assert_array_equal(found.scores, [0.75])
    assert found.status == Status.REFINED
    lower = dark_jax.decode_simcc(x, y, split_ratio=1)
    np.testing.assert_array_equal(lower.coords, [[-1, -1]])


def gaussian_bins(centres: list[float], size: int) -> np.ndarray:
    points = np.stack([centres, np.zeros(len(centres))], axis=-1)
    return synthetic.draw(points, (1, size), sigma=6.0)[:, 0].astype(np.float32)


@pytest.mark.parametrize(("rule", "leading"), [(DARK, (2, 3)), (rules.GUARDED, ())], ids=str)
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


@pytest.mark.parametrize(("rule", "kernel"), [(rules.MMPOSE_SIMCC, None), (DARK, 11)], ids=str)
def test_the_lower_maximum_is_the_score_and_decides(
    golden: dict[str, np.ndarray], rule: rules.Rule, kernel: int | None
) -> None:
    """If no x bin is above zero, both coordinates are the sentinel, -1 bins, whatever y is."""
    count = len(golden["bins/x"])
    x, y = gaussian_bins([60.4] * count, 96), gaussian_bins([70.2] * count, 128)
    x[0] *= 0.5
    x[1] = 0
    y[2, 0] = np.nan
    found = dark_jax.decode_simcc(x, y, rule=rule, kernel_size=kernel)
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
        ({"rule": DARK, "kernel_size": (3, 4)}, ValueError, "kernel_size must be an odd integer"),
        (
            {"kernel_size": 37},
            ValueError,
            "rule MMPOSE_SIMCC does not blur: leave out kernel_size=37",
        ),
        ({"score": "max"}, ValueError, "score must be 'min' or 'mean', got 'max'"),
        ({"score": np.array(["min"])}, ValueError, "score must be 'min' or 'mean', got array"),
        ({"score": ["mean"]}, ValueError, r"score must be 'min' or 'mean', got \['mean'\]"),
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
