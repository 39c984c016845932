"""Guarded DARK: the mathematics of the reference, and every reason not to refine."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import dark_jax
from dark_jax import Status
from dark_jax._ops.gaussian import opencv_kernel
from tests.support import oracle, synthetic, tolerances
from tests.support.batches import in_batches
from tests.support.cases import slow_but

# Every test that is not about a size or a layout decodes batches of this size.
BATCH, SIZE = 64, (24, 20)


def decode(maps: np.ndarray, **options: Any) -> dark_jax.Keypoints:
    """Decode any number of maps ``[N, *SIZE]``."""
    return in_batches(functools.partial(dark_jax.decode, **options), maps, size=BATCH)


def decode_one(heatmap: np.ndarray, **options: Any) -> dark_jax.Keypoints:
    return jax.tree.map(lambda leaf: leaf[0], decode(heatmap[None], **options))


def bump(x: float, y: float, sigma: float = 2.0) -> np.ndarray:
    return synthetic.draw(np.array([[x, y]]), SIZE, sigma=sigma)[0].astype(np.float32)


def integer_peaks(maps: np.ndarray) -> np.ndarray:
    """``[N, dim]`` (x, y, ...), the argmax of NumPy."""
    flat = maps.reshape(len(maps), -1).argmax(axis=1)
    return np.stack(np.unravel_index(flat, maps.shape[1:])[::-1], axis=-1)


def assert_integer_peak(keypoints: dark_jax.Keypoints, status: Status, coords: object) -> None:
    assert Status(int(keypoints.status)) is status
    np.testing.assert_array_equal(keypoints.coords, coords)


def test_default_kernel_is_five(sample_heatmaps: np.ndarray) -> None:
    default = dark_jax.decode(sample_heatmaps)
    named = dark_jax.decode(sample_heatmaps, kernel_size=5)
    np.testing.assert_array_equal(default.coords, named.coords)


def test_sample_faces_are_refined(sample_heatmaps: np.ndarray) -> None:
    """The astronaut's nose, eyes and ears, in heatmap pixels, are where a person places them."""
    keypoints = dark_jax.decode(sample_heatmaps)
    face = [0, 14, 15, 16, 17]
    assert (np.asarray(keypoints.status)[0, face] == Status.REFINED).all()
    by_hand = [[13.6, 7.3], [12.3, 5.8], [15.0, 5.9], [10.5, 6.7], [17.0, 6.8]]
    np.testing.assert_allclose(np.asarray(keypoints.coords)[0, face], by_hand, atol=0.5)


class TestStatus:
    def test_not_finite_score(self) -> None:
        """The peak of an infinite score is known. A NaN score leaves nothing known."""
        heatmap = bump(9, 11)
        heatmap[3, 4] = np.inf
        assert_integer_peak(decode_one(heatmap), Status.NOT_FINITE, [4, 3])
        heatmap[5, 6] = np.nan
        assert_integer_peak(decode_one(heatmap), Status.NOT_FINITE, [np.nan, np.nan])
        assert np.isnan(decode_one(heatmap).scores)
        everywhere = np.full(SIZE, -np.inf, np.float32)
        assert_integer_peak(decode_one(everywhere), Status.NOT_FINITE, [0, 0])

    @pytest.mark.parametrize(
        ("kernel", "distance", "seen"),
        [(11, 7, True), (11, 8, False), (None, 4, True), (None, 5, False)],
    )
    def test_not_finite_window(self, kernel: int | None, distance: int, seen: bool) -> None:
        """A kernel of 11 reads 7 pixels to each side, the default of 5 reads 4."""
        heatmap = bump(10.2, 12)
        heatmap[12, 10 + distance] = -np.inf
        keypoints = decode_one(heatmap, kernel_size=kernel)
        if seen:
            assert_integer_peak(keypoints, Status.NOT_FINITE, [10, 12])
        else:
            assert keypoints.status == Status.REFINED

    @pytest.mark.parametrize("level", [0.0, -1.0])
    def test_no_peak(self, level: float) -> None:
        """The integer peak of a map below zero is still its argmax."""
        heatmap = bump(9, 11) - 2 if level else np.zeros(SIZE, np.float32)
        assert_integer_peak(decode_one(heatmap), Status.NO_PEAK, [9, 11] if level else [0, 0])

    @pytest.mark.parametrize(
        ("x", "y", "status"),
        [
            (1, 9, Status.BORDER),
            (2, 9, Status.REFINED),
            (9, 1, Status.BORDER),
            (9, 2, Status.REFINED),
            (18, 9, Status.BORDER),
            (17, 9, Status.REFINED),
            (9, 22, Status.BORDER),
            (9, 21, Status.REFINED),
        ],
    )
    def test_border(self, x: int, y: int, status: Status) -> None:
        keypoints = decode_one(bump(x, y), kernel_size=3)
        assert Status(int(keypoints.status)) is status
        if status is Status.BORDER:
            np.testing.assert_array_equal(keypoints.coords, [x, y])

    def test_not_concave(self) -> None:
        """The raw peak lies in a bowl, where the blurred map has no maximum."""
        heatmap = np.full(SIZE, 1.0, np.float32)
        heatmap[6:9, 6:9] = 0.1
        heatmap[7, 7] = 1.01
        assert_integer_peak(decode_one(heatmap, kernel_size=3), Status.NOT_CONCAVE, [7, 7])

    def test_negative_blurred_peak_is_not_concave(self) -> None:
        """The reference scales this map by a negative factor, so it decodes one of flipped sign."""
        heatmap = np.full(SIZE, -1.0, np.float32)
        heatmap[7, 7] = 0.5
        assert_integer_peak(decode_one(heatmap), Status.NOT_CONCAVE, [7, 7])

    def test_nothing_beside_the_peak(self) -> None:
        """Neighbours clamped to the floor make the map concave and centred, but it has no blob."""
        heatmap = np.full(SIZE, -1.0, np.float32)
        heatmap[7, 6] = 5.0  # the blur makes it 0.5, and -0.25 beside it
        assert_integer_peak(decode_one(heatmap, kernel_size=3), Status.NOT_CONCAVE, [6, 7])

    def test_one_value_at_the_floor(self) -> None:
        """The logarithm of a value that is not positive would decide the step."""
        heatmap = bump(9.3, 12)
        assert decode_one(heatmap).status == Status.REFINED
        heatmap[11:14, 10:13] = -1  # two pixels to the right the blurred map is negative
        assert_integer_peak(decode_one(heatmap), Status.NOT_CONCAVE, [9, 12])

    def test_logits_are_told(self) -> None:
        """With kernel 11 most are not refined. With the default, the refined ones are close."""
        maps, points = synthetic.gaussians(0, 300, SIZE, sigma=2.0, margin=8.0)
        status = np.asarray(decode(8 * maps - 4, kernel_size=11).status)
        assert (status == Status.REFINED).mean() < 0.1
        found = decode(8 * maps - 4)
        refined = np.asarray(found.status) == Status.REFINED
        assert refined.mean() < 0.2
        assert np.linalg.norm(found.coords - points, axis=-1)[refined].max() < 0.2

    def test_step_too_long(self) -> None:
        """The raw peak is on the slope of a broad blob. It is concave, but its top is 4 px away."""
        heatmap = bump(7, 12, sigma=5.0)
        heatmap[12, 11] = 1.05
        assert_integer_peak(decode_one(heatmap, kernel_size=7), Status.STEP_TOO_LONG, [11, 12])

    @pytest.mark.parametrize(("sigma", "bound"), [(1.0, 3.0), (3.0, 3.0), (4.0, 4.0)])
    def test_step_bound(self, sigma: float, bound: float) -> None:
        """On noise, steps can be hundreds of pixels long. None above the bound is taken.

        Many are flagged. The bound is the blur's sigma, or the blob's own up to three pixels.
        """
        maps = synthetic.noise(0, 4000, SIZE, zero_mean=False)
        keypoints = decode(maps, blur_sigma=sigma)
        moved = np.linalg.norm(keypoints.coords - integer_peaks(maps), axis=-1)
        assert moved.max() <= bound + 1e-5
        assert moved.max() > 0.9 * bound
        status = np.asarray(keypoints.status)
        assert (status == Status.STEP_TOO_LONG).sum() > 50
        assert (moved[status != Status.REFINED] == 0).all()

    @pytest.mark.parametrize("kernel", [3, 7, 11])
    def test_every_reason_on_noise(self, kernel: int) -> None:
        """The status matches the rules in NumPy, except within rounding of a threshold."""
        pytest.importorskip("cv2")

        maps = synthetic.noise(3, 1500, SIZE, zero_mean=False) + np.float32(0.1)
        found = np.asarray(decode(maps, kernel_size=kernel).status)
        taps = opencv_kernel(kernel)
        blur = taps @ (np.arange(kernel) - kernel // 2) ** 2
        shortest = max(1.5, 0.3 * ((kernel - 1) / 2 - 1) + 0.8)
        checked = []
        for heatmap, status in zip(maps, found, strict=True):
            x, y, _ = oracle.get_max_preds(heatmap)
            if not oracle.interior(x, y, heatmap.shape):
                expected = Status.BORDER
            else:
                log_map = np.log(oracle.gaussian_blur(heatmap, kernel))
                gradient, hessian = oracle.derivatives(log_map, x, y)
                largest = np.linalg.eigvalsh(hessian)[-1]
                step = -np.linalg.solve(hessian, gradient)
                length = np.linalg.norm(step)
                # The blob's variance along the step is the total less that of the blur.
                own = length**2 / (step @ gradient) - blur
                longest = max(shortest, min(max(own, 0), 9) ** 0.5)
                if abs(largest) < 1e-3 or abs(length / longest - 1) < 1e-3:
                    continue
                expected = Status.STEP_TOO_LONG if length > longest else Status.REFINED
                expected = expected if largest < 0 else Status.NOT_CONCAVE
            assert Status(int(status)) is expected
            checked.append(expected)
        for reason in (Status.REFINED, Status.BORDER, Status.NOT_CONCAVE, Status.STEP_TOO_LONG):
            assert checked.count(reason) > 5, reason

    @pytest.mark.parametrize(
        ("kernel", "sigma", "wanted"),
        [(11, 2.0, 1.1), (11, 3.0, 1.3), (11, 4.0, 2.0), (None, 1.5, 1.2), (None, 2.0, 1.6)],
    )
    def test_wide_noisy_blobs_are_refined(
        self, kernel: int | None, sigma: float, wanted: float
    ) -> None:
        """Their maximum is far from their middle. The error is in units of the Cramer-Rao bound."""
        maps, points = synthetic.gaussians(
            5, 40 * BATCH, (48, 40), sigma=sigma, noise=0.1, margin=8.0
        )
        found = decode(maps, kernel_size=kernel)
        error = np.sqrt(((found.coords - points) ** 2).mean())
        assert error / synthetic.bound(0.1) <= wanted
        assert (np.asarray(found.status) == Status.REFINED).mean() > 0.995

    def test_precedence(self) -> None:
        """NOT_FINITE precedes NO_PEAK, which precedes BORDER. The test on noise has the others."""
        border = np.zeros(SIZE, np.float32)
        border[0, 0] = 1
        below = -np.ones(SIZE, np.float32)
        unknown = below.copy()
        unknown[1, 1] = -np.inf
        maps = np.stack([unknown, below, border])
        found = np.asarray(decode(maps, kernel_size=3).status)
        np.testing.assert_array_equal(found, [Status.NOT_FINITE, Status.NO_PEAK, Status.BORDER])

    def test_degenerate_maps_never_give_nan_without_one(self) -> None:
        for name, heatmap in synthetic.degenerate(SIZE).items():
            keypoints = decode_one(heatmap)
            assert np.isnan(keypoints.coords).all() == np.isnan(heatmap).any(), name
            if keypoints.status != Status.REFINED and not np.isnan(heatmap).any():
                np.testing.assert_array_equal(
                    keypoints.coords, oracle.middle(heatmap), err_msg=name
                )


@pytest.mark.parametrize("scale", [1e-30, 1e-15, 1e-3, 255.0, 1e30, 2.5e38])
@pytest.mark.parametrize("kind", ["noisy", "cut"])
def test_scale_does_not_matter(kind: str, scale: float) -> None:
    """The floor under the logarithm, which matters for maps cut to zero, scales with the map."""
    maps, _ = synthetic.gaussians(0, BATCH, SIZE, sigma=2.0, noise=0.02)
    maps = synthetic.cut(maps, threshold=0.98) if kind == "cut" else maps
    plain, scaled = decode(maps), decode(maps * np.float32(scale))
    np.testing.assert_array_equal(plain.status, scaled.status)
    np.testing.assert_allclose(plain.coords, scaled.coords, rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    "leading",
    slow_but([(), (1, 2, 1, 3), (0, 17)], [(), (1, 2, 1, 3), (0, 17), (2, 3), (3, 0)]),
)
def test_any_leading_axes(leading: tuple[int, ...]) -> None:
    maps, _ = synthetic.gaussians(0, 6, SIZE, sigma=2.0)
    count = int(np.prod(leading))
    keypoints = dark_jax.decode(maps[:count].reshape(*leading, *SIZE))
    assert keypoints.coords.shape == (*leading, 2)
    assert keypoints.scores.shape == keypoints.status.shape == leading
    assert keypoints.status.dtype == jnp.int8
    found = np.asarray(keypoints.coords).reshape(-1, 2)
    np.testing.assert_allclose(found, decode(maps).coords[:count], atol=1e-6)


@pytest.mark.parametrize("size", [(1, 1), (4, 7), (5, 5)], ids=str)
def test_any_size(size: tuple[int, int]) -> None:
    """The sizes are one pixel, one too small for an interior and one just large enough.

    All are smaller than the window.
    """
    keypoints = dark_jax.decode(synthetic.noise(0, 50, size, zero_mean=False))
    assert np.isfinite(keypoints.coords).all()
    if min(size) < 5:
        assert (np.asarray(keypoints.status) == Status.BORDER).all()


def test_one_bad_map_leaves_the_others_alone() -> None:
    maps, _ = synthetic.gaussians(0, 6, SIZE, sigma=2.0)
    clean = decode(maps)
    maps[2, 3, 4] = np.nan
    mixed = decode(maps)
    others = np.arange(6) != 2
    np.testing.assert_array_equal(clean.coords[others], mixed.coords[others])
    assert mixed.status[2] == Status.NOT_FINITE


COARSE = [
    (jnp.bfloat16, 1, 0.03),
    (np.uint8, 255, 0.01),
    (np.float16, 1, 0.004),
    (np.int32, 1e6, 5e-4),
]


@pytest.mark.parametrize(("dtype", "scale", "allowed"), slow_but(COARSE[:2], COARSE, unpack=True))
def test_coarse_types(dtype: np.dtype, scale: float, allowed: float) -> None:
    """Maps are computed in float32. Only what their own type cannot hold is lost."""
    maps, points = synthetic.gaussians(0, 32, SIZE, sigma=2.0, margin=8.0)
    coarse = np.round(maps * scale, 3 if scale == 1 else 0).astype(dtype)
    keypoints = dark_jax.decode(coarse, kernel_size=11)
    assert keypoints.coords.dtype == keypoints.scores.dtype == jnp.float32
    assert np.abs(np.asarray(keypoints.coords) - points).max() < allowed


def test_float64() -> None:
    points = synthetic.centres(0, 32, (48, 40), margin=12.0)
    maps = synthetic.draw(points, (48, 40), sigma=2.0)
    with jax.enable_x64(True):
        keypoints = dark_jax.decode(maps, blur_sigma=2.0)
    assert keypoints.coords.dtype == keypoints.scores.dtype == jnp.float64
    np.testing.assert_allclose(keypoints.coords, points, rtol=0, atol=tolerances.ROUND_TRIP)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"kernel_size": 4}, ValueError, "kernel_size must be an odd integer .* got 4"),
        ({"kernel_size": -1}, ValueError, "kernel_size must be an odd integer .* got -1"),
        ({"kernel_size": 3.0}, TypeError, "kernel_size must be an odd integer .* got 3.0"),
        ({"blur_sigma": 0}, ValueError, "blur_sigma must be a positive, finite number, got 0"),
        ({"blur_sigma": float("nan")}, ValueError, "blur_sigma must be a positive, finite number"),
        ({"blur_sigma": "2"}, TypeError, "blur_sigma must be a positive, finite number, got '2'"),
        ({"kernel_size": 3, "blur_sigma": 1.0}, ValueError, "kernel_size or blur_sigma, not both"),
    ],
)
def test_bad_parameters_are_named(
    arguments: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        dark_jax.decode(np.ones((8, 8)), **arguments)


def test_traced_sigma_is_refused() -> None:
    with pytest.raises(TypeError, match=r"sigma must be .*, not traced, got .*functools.partial"):
        jax.jit(lambda s: dark_jax.decode(jnp.ones((8, 8)), blur_sigma=s))(2.0)


@pytest.mark.parametrize("heatmaps", [np.ones(5), np.ones((3, 0, 5)), 1.0])
def test_bad_shapes_are_named(heatmaps: Any) -> None:
    with pytest.raises(ValueError, match="heatmaps must have"):
        dark_jax.decode(heatmaps)
