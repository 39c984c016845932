"""The four reference functions against the float64 oracle, computed live or stored."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import dark_jax
from dark_jax import Status
from tests.golden.make import FILE, KERNELS
from tests.support import oracle, synthetic, tolerances
from tests.support.batches import in_batches
from tests.support.cases import slow_but

# The count and size of the golden maps. Tests that are not about a size reuse their programs.
COUNT, SIZE = 364, (21, 18)


def excess(coords: np.ndarray, answers: dict[str, np.ndarray]) -> np.ndarray:
    """C of each map: its error in units of eps32 (1 + |step|) / |smallest eigenvalue|.

    Half of the last bit of a float32 coordinate is not counted.
    """
    expected = answers["coords"]
    error = np.abs(coords.astype(np.float64) - expected)
    last_bit = np.spacing(np.abs(expected).astype(np.float32)).astype(np.float64)
    error = np.linalg.norm(np.maximum(error - last_bit / 2, 0), axis=-1)
    # Where nothing is refined, the eigenvalue is infinite or the Hessian singular. There the
    # integer peak must be met exactly.
    with np.errstate(all="ignore"):
        unit = tolerances.EPS32 * (1 + answers["step"]) / answers["eigenvalue"]
        return np.where(error == 0, 0, np.where(answers["refined"], error / unit, np.inf))


def assert_exact(maps: np.ndarray, kernel: int, answers: dict[str, np.ndarray]) -> None:
    """Check peaks and scores bit for bit, coordinates to the stated bound (worst C met: 1.6)."""
    batch = maps[None]
    peaks, peak_maxvals = map(np.asarray, dark_jax.get_max_preds(batch))
    coords, maxvals = map(np.asarray, dark_jax.get_final_preds(batch, kernel))
    np.testing.assert_array_equal(peaks[0], answers["peak"])
    for found in (peak_maxvals, maxvals):
        np.testing.assert_array_equal(found[0, :, 0], answers["maxval"])
        finite_sign = ~np.isnan(answers["maxval"])
        np.testing.assert_array_equal(
            np.signbit(found[0, :, 0])[finite_sign], np.signbit(answers["maxval"])[finite_sign]
        )
    found = coords[0]
    nan = np.isnan(answers["coords"])
    np.testing.assert_array_equal(np.isnan(found), nan)
    kept = ~nan.any(axis=-1)
    worst = excess(found[kept], {name: column[kept] for name, column in answers.items()})
    assert worst.size == 0 or worst.max() <= tolerances.REFERENCE


# A size and a kernel beside those of the golden maps, which every run tests. The slow tests add
# other pairs.
TRIED = [((31, 37), 7)]
TRIED_TOO = [
    ((7, 12), 5),
    ((5, 5), 17),
    ((5, 5), 5),
    ((7, 12), 11),
    ((32, 24), 3),
    ((31, 37), 1),
    ((31, 37), 17),
]


@pytest.fixture(scope="module")
def golden() -> dict[str, np.ndarray]:
    with np.load(FILE) as arrays:
        return dict(arrays)


def golden_answers(golden: dict[str, np.ndarray], name: str, kernel: int) -> dict[str, np.ndarray]:
    prefix = f"{name}/{kernel}/"
    return {key.removeprefix(prefix): v for key, v in golden.items() if key.startswith(prefix)}


@pytest.mark.parametrize("kernel", slow_but([1, 3, 11], KERNELS))
def test_golden_synthetic(golden: dict[str, np.ndarray], kernel: int) -> None:
    assert_exact(golden["maps"], kernel, golden_answers(golden, "synthetic", kernel))


@pytest.mark.parametrize("kernel", slow_but([11], [3, 11]))
def test_golden_sample(
    golden: dict[str, np.ndarray], sample_heatmaps: np.ndarray, kernel: int
) -> None:
    assert_exact(sample_heatmaps[0], kernel, golden_answers(golden, "sample", kernel))


def test_golden_covers_the_clamp(golden: dict[str, np.ndarray]) -> None:
    """For every kernel, some golden maps are refined although the floor of 1e-10 changes them."""
    for kernel in KERNELS:
        answers = golden_answers(golden, "synthetic", kernel)
        assert (answers["clamped"] & answers["refined"]).sum() >= 2


@pytest.mark.parametrize("kernel", slow_but([11], [3, 11]))
def test_guarded_decode_is_the_reference(golden: dict[str, np.ndarray], kernel: int) -> None:
    """Over nine in ten coordinates agree bit for bit, the others nearly, if the floor is not met.

    Only maps with one highest pixel count: on a flat top the reference starts at a corner.
    """
    answers = golden_answers(golden, "synthetic", kernel)
    maps = golden["maps"]
    keypoints = dark_jax.decode(maps, kernel_size=kernel)
    reference = np.asarray(dark_jax.get_final_preds(maps[None], kernel)[0])
    alone = np.array([len(oracle.flat_top(heatmap)) == 1 for heatmap in maps])
    same = alone & (np.asarray(keypoints.status) == Status.REFINED) & ~answers["clamped"]
    assert same.sum() > 100
    difference = np.abs(np.asarray(keypoints.coords) - reference[0])[same].max(axis=-1)
    assert (difference == 0).mean() > 0.9
    assert difference.max() <= tolerances.SAME_MATHEMATICS


class TestLive:
    """Compare with OpenCV itself, on more maps and sizes."""

    @pytest.fixture(autouse=True)
    def _needs_opencv(self) -> None:
        pytest.importorskip("cv2")

    @staticmethod
    def check(maps: np.ndarray, kernel: int) -> None:
        assert_exact(maps, kernel, oracle.answers(maps, kernel))

    @pytest.mark.parametrize(
        ("size", "kernel"),
        slow_but(TRIED, TRIED + TRIED_TOO, unpack=True),
        ids=str,
    )
    def test_synthetic(self, size: tuple[int, int], kernel: int) -> None:
        cases = synthetic.reference_cases(size, count=8)
        self.check(np.concatenate(list(cases.values())), kernel)

    @pytest.mark.slow
    @pytest.mark.parametrize("kernel", KERNELS)
    def test_many(self, kernel: int) -> None:
        """Every kernel decodes all cases of one of two sizes, as one batch."""
        size = (64, 48) if kernel in (3, 7, 17) else (24, 20)
        cases = synthetic.reference_cases(size, count=200)
        self.check(np.concatenate(list(cases.values())), kernel)

    @pytest.mark.slow
    def test_large(self) -> None:
        """This tests a third of the kinds of maps. The smaller sizes test all of them."""
        cases = synthetic.reference_cases((384, 288), count=1)
        del cases["border"]
        self.check(np.concatenate(list(cases.values())[::3]), 17)

    @pytest.mark.parametrize("kernel", [3, 11])
    def test_real_maps(self, openfield_heatmaps: np.ndarray, kernel: int) -> None:
        maps = openfield_heatmaps.astype(np.float32)
        self.check(maps.reshape(-1, *maps.shape[-2:]), kernel)

    @pytest.mark.parametrize("kernel", [3, 5, 7, 11, 17])
    def test_opencv_coefficients(self, kernel: int) -> None:
        import cv2

        from dark_jax._ops.gaussian import opencv_kernel

        expected = cv2.getGaussianKernel(kernel, 0)[:, 0]
        np.testing.assert_allclose(opencv_kernel(kernel), expected, rtol=4e-15)

    @pytest.mark.parametrize("kernel", slow_but([3, 17], KERNELS))
    def test_gaussian_blur(self, kernel: int) -> None:
        maps = np.concatenate(
            [
                synthetic.gaussians(0, 4, SIZE, sigma=2.0, noise=0.05)[0],
                synthetic.noise(1, 4, SIZE, zero_mean=False),
            ]
        )
        blurred = in_batches(
            lambda batch: np.asarray(dark_jax.gaussian_blur(batch[None], kernel))[0],
            maps,
            size=COUNT,
        )
        for found, heatmap in zip(blurred, maps, strict=True):
            expected = oracle.gaussian_blur(heatmap, kernel)
            allowed = tolerances.BLUR[found.dtype] * np.abs(expected).max()
            np.testing.assert_allclose(found, expected, rtol=0, atol=allowed)

    @pytest.mark.parametrize("kernel", slow_but([], [1, 11, 17]))
    def test_float64(self, kernel: int) -> None:
        """With x64 on, float64 maps are decoded in float64, so the tolerance is far smaller."""
        maps = synthetic.gaussians(3, 16, (32, 24), sigma=1.5, noise=0.02)[0].astype(np.float64)
        answers = oracle.answers(maps, kernel)
        with jax.enable_x64(True):
            coords, maxvals = dark_jax.get_final_preds(maps[None], kernel)
            blurred = dark_jax.gaussian_blur(maps[None], kernel)
        assert coords.dtype == maxvals.dtype == blurred.dtype == jnp.float64
        found = np.asarray(coords)[0]
        np.testing.assert_allclose(found, answers["coords"], rtol=0, atol=1e-11)
        expected = np.stack([oracle.gaussian_blur(heatmap, kernel) for heatmap in maps])
        atol = tolerances.BLUR[np.dtype("float64")] * maps.max()
        np.testing.assert_allclose(np.asarray(blurred)[0], expected, rtol=0, atol=atol)


def test_well_conditioned_error_is_below_a_ten_thousandth() -> None:
    """The stated C gives 1e-4 px if the eigenvalue is at least 0.01 and the step at most 2 px."""
    assert tolerances.REFERENCE * tolerances.EPS32 * (1 + 2) / 0.01 <= 1e-4


def test_arguments_are_not_changed() -> None:
    maps = synthetic.cut(synthetic.gaussians(0, COUNT, SIZE, sigma=2.0)[0], threshold=0.7)
    before = maps.copy()
    dark_jax.gaussian_blur(maps[None])
    dark_jax.get_final_preds(maps[None])
    dark_jax.taylor(maps[0], np.array([8.0, 8.0]))
    np.testing.assert_array_equal(maps, before)


@pytest.mark.parametrize(
    "dtype",
    slow_but([np.uint8], [np.uint8, jnp.bfloat16, np.bool_]),
)
def test_other_types_are_computed_in_float32(dtype: np.dtype) -> None:
    values = synthetic.gaussians(0, COUNT, SIZE, sigma=2.0)[0]
    scale = 200 if np.issubdtype(dtype, np.integer) else 1.5
    maps = np.asarray(scale * values).astype(dtype)[None]
    same = maps.astype(np.float32)
    for function in (
        dark_jax.get_max_preds,
        dark_jax.gaussian_blur,
        dark_jax.get_final_preds,
    ):
        for found, expected in zip(
            jax.tree.leaves(function(maps)), jax.tree.leaves(function(same)), strict=True
        ):
            assert found.dtype == jnp.float32
            np.testing.assert_array_equal(found, expected)


def test_integer_peaks_are_exact_beyond_float32() -> None:
    """2^24 and 2^24 + 1 are the same float32 but not the same peak."""
    maps = np.full((1, 1, 4, 4), 2**24, np.int32)
    maps[0, 0, 2, 1] += 1
    coords, _ = dark_jax.get_max_preds(maps)
    np.testing.assert_array_equal(np.asarray(coords)[0, 0], [1, 2])
