"""The peaks of a map match a search by definition. Each is refined as a single peak is."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import dark_jax
from dark_jax import Status
from tests.support import oracle, synthetic, tolerances
from tests.support.batches import in_batches
from tests.support.cases import slow_but

SIZE = (24, 20)


def expected(
    heatmap: np.ndarray, *, threshold: float, distance: int, count: int
) -> list[tuple[int, ...]]:
    """The peaks (x, y, ...) sorted by score. Equal ones are in row-major order."""
    found = oracle.peaks(heatmap, threshold=threshold, distance=distance)
    return [p[::-1] for p in sorted(found, key=lambda p: -heatmap[p])][:count]


def cases() -> dict[str, np.ndarray]:
    y, x = np.mgrid[: SIZE[0], : SIZE[1]]
    disc = np.where((x - 9.5) ** 2 + (y - 11) ** 2 < 41, 0.9, 0.1).astype(np.float32)
    ring = np.where(abs(np.hypot(x - 9.5, y - 11) - 7) < 1, 0.9, 0.1).astype(np.float32)
    shelf = np.full(SIZE, 0.1, np.float32)
    shelf[8, 2:18], shelf[8, 2] = 0.5, 0.6
    two_discs = np.where((x - 4) ** 2 + (y - 5) ** 2 < 10, 0.9, 0.1)
    two_discs[(x - 14) ** 2 + (y - 5) ** 2 < 10] = 0.9
    crowd, _ = synthetic.crowds(0, 4, SIZE, peaks=8, separation=3, sigma=1.2, noise=0.02)
    found = {
        "disc": disc,
        "ring": ring,
        "shelf": shelf,
        "two discs": two_discs.astype(np.float32),
        "constant": np.full(SIZE, 0.7, np.float32),
        "uniform noise": synthetic.noise(1, 1, SIZE, zero_mean=False)[0],
        "normal noise": synthetic.noise(2, 1, SIZE, zero_mean=True)[0],
        "levels": np.round(3 * synthetic.noise(3, 1, SIZE, zero_mean=False)[0]) / 3,
    }
    found |= {f"crowd {n}": heatmap for n, heatmap in enumerate(crowd)}
    found |= {f"crowd {n} of 8 levels": np.round(8 * m) / 8 for n, m in enumerate(crowd)}
    return found


CASES = cases()
STACKED = np.stack(list(CASES.values()))


@jax.jit
def _nine(maps: jax.Array, thresholds: jax.Array) -> dark_jax.Keypoints:
    return dark_jax.decode_peaks(
        maps, max_peaks=9, threshold=thresholds, min_distance=2, kernel_size=7
    )


def nine(maps: np.ndarray, thresholds: Any) -> dark_jax.Keypoints:
    """The nine highest peaks of each map, with a traced threshold for each.

    Maps are filled up to the number of ``CASES``, so that one program serves all tests.
    """
    filled = np.concatenate([maps, np.repeat(maps[-1:], len(STACKED) - len(maps), axis=0)])
    each = np.full(len(STACKED), 2.0, np.float32)
    each[: len(maps)] = thresholds
    return jax.tree.map(lambda leaf: np.asarray(leaf)[: len(maps)], _nine(filled, each))


def decoded(threshold: float, *names: str) -> dark_jax.Keypoints:
    return nine(np.stack([CASES[name] for name in names]), threshold)


@pytest.mark.parametrize("distance", slow_but([3], [1, 3, 6, 30]))
def test_finds_what_the_definition_finds(distance: int) -> None:
    """A plateau of any shape is one peak. Equal peaks elsewhere survive."""
    count = STACKED[0].size

    def scores(maps: jax.Array) -> tuple[jax.Array, jax.Array]:
        found = dark_jax.decode_peaks(maps, max_peaks=count, threshold=0.3, min_distance=distance)
        return found.scores.sum(), found.scores

    # The gradient of the scores is one at the peaks, so it tells their pixels.
    chosen, found = map(np.asarray, jax.jit(jax.grad(scores, has_aux=True))(STACKED))
    for name, heatmap, places, values in zip(CASES, STACKED, chosen, found, strict=True):
        truth = expected(heatmap, threshold=0.3, distance=distance, count=count)
        assert sorted(zip(*np.nonzero(places.T), strict=True)) == sorted(truth), name
        np.testing.assert_array_equal(values[: len(truth)], [heatmap[p[::-1]] for p in truth])
        assert (values[len(truth) :] == 0).all(), name


def test_plateaus_by_hand() -> None:
    found = decoded(0.2, "disc", "ring", "two discs")
    np.testing.assert_array_equal((found.scores > 0).sum(-1), [1, 1, 2])
    np.testing.assert_array_equal(found.status[:, 2:], Status.NO_PEAK)
    np.testing.assert_array_equal(found.coords[:, 2:], 0)


def test_refines_each_as_decode_refines_one() -> None:
    """A map with only the pixels around one peak decodes to the same coordinates."""
    maps, centres = synthetic.crowds(4, 30, (64, 48), peaks=6, separation=12, sigma=1.5, noise=0.01)
    found = dark_jax.decode_peaks(maps, max_peaks=30, threshold=0.3, min_distance=3)
    found = jax.tree.map(np.asarray, found)
    reach = 2 + 5 // 2
    cut, points, states = [], [], []
    for heatmap, coords, scores, status, truth in zip(
        maps, found.coords, found.scores, found.status, centres, strict=True
    ):
        assert (scores > 0).sum() == len(truth)
        for point, state in zip(coords[: len(truth)], status, strict=False):
            nearest = truth[np.linalg.norm(truth - point, axis=1).argmin()]
            assert np.linalg.norm(nearest - point) < 0.2
            x, y = (int(at) for at in np.round(nearest))
            near = np.s_[
                max(y - reach - 1, 0) : y + reach + 2, max(x - reach - 1, 0) : x + reach + 2
            ]
            alone = np.zeros_like(heatmap)
            alone[near] = heatmap[near]
            cut.append(alone)
            points.append(point)
            states.append(state)
    one = in_batches(lambda m: dark_jax.decode(m, kernel_size=5), np.stack(cut), size=30)
    np.testing.assert_allclose(points, one.coords, rtol=0, atol=tolerances.COMPILED * 20)
    np.testing.assert_array_equal(states, one.status)


def test_one_slot_is_decode_and_the_first_of_many() -> None:
    maps, _ = synthetic.gaussians(5, 40, SIZE, sigma=1.5, noise=0.05, margin=0.0)
    maps = np.concatenate([maps, STACKED])
    peaks = dark_jax.decode_peaks(maps, max_peaks=1, threshold=0.0, min_distance=2, kernel_size=7)
    single = dark_jax.decode(maps, kernel_size=7)
    many = nine(STACKED, 0.0)
    for slot, one, first in zip(*map(jax.tree.leaves, (peaks, single, many)), strict=True):
        close = functools.partial(np.testing.assert_allclose, rtol=0, atol=tolerances.COMPILED * 20)
        close(np.asarray(slot)[:40, 0], np.asarray(one)[:40])
        close(np.asarray(slot)[40:], first[:, :1])


def test_sorted() -> None:
    scores = decoded(0.2, "crowd 0", "uniform noise", "levels").scores
    assert (np.diff(scores) <= 0).all()
    assert (scores[:, :3] > 0).all()


def test_crowds() -> None:
    """All peaks, each more than 6 px from the next, are found, and nothing else is."""
    maps, centres = synthetic.crowds(6, 30, (64, 48), peaks=15, separation=6, sigma=1.5, noise=0.02)
    found = dark_jax.decode_peaks(maps, max_peaks=30, threshold=0.2, min_distance=3)
    found = jax.tree.map(np.asarray, found)
    for coords, scores, truth in zip(found.coords, found.scores, centres, strict=True):
        coords = coords[scores > 0]
        assert len(coords) == len(truth)
        distances = np.linalg.norm(truth[:, None] - coords, axis=-1)
        assert len(set(distances.argmin(axis=1))) == len(truth)
        assert distances.min(axis=1).max() < 0.5


def test_threshold_of_each_map_and_traced() -> None:
    maps = np.stack([CASES["crowd 0"], CASES["crowd 1"], CASES["crowd 1"]])
    thresholds = np.array([0.3, 0.7, 2.0], np.float32)
    found = nine(maps, thresholds)
    for heatmap, scores, threshold in zip(maps, found.scores, thresholds, strict=True):
        truth = expected(heatmap, threshold=float(threshold), distance=2, count=9)
        assert (scores > 0).sum() == len(truth)
    np.testing.assert_array_equal(found.status[2], Status.NO_PEAK)


@pytest.mark.parametrize("axes", slow_but([(-3, -2)], [(-3, -2), (-1,), (-3, -2, -1)]), ids=str)
def test_any_layout_and_dimension(axes: tuple[int, ...]) -> None:
    """The rounded values have plateaus, the others do not."""
    uniform = synthetic.rng(7).random((2, 9, 8, 10)).astype(np.float32)
    others = [axis for axis in range(4) if axis - 4 not in axes]
    for values in (np.round(2 * uniform) / 2, uniform):
        found = dark_jax.decode_peaks(
            values, max_peaks=99, threshold=0.4, min_distance=1, axes=axes, kernel_size=1
        )
        assert found.coords.shape == (*(values.shape[axis] for axis in others), 99, len(axes))
        all_scores = np.asarray(found.scores)
        for index in np.ndindex(*(values.shape[axis] for axis in others)):
            where = dict(zip(others, index, strict=True))
            one = values[tuple(where.get(axis, slice(None)) for axis in range(4))]
            truth = expected(one, threshold=0.4, distance=1, count=99)
            scores = all_scores[index]
            np.testing.assert_array_equal(scores[: len(truth)], [one[p[::-1]] for p in truth])
            assert (scores[len(truth) :] == 0).all()


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["uint8", "bfloat16", "int32"])
def test_types(dtype: str) -> None:
    """Maps are computed in float32. Few levels make many ties."""
    maps = np.stack([CASES[f"crowd {n}"] for n in range(4)])
    typed = (255 * np.maximum(maps, 0)).astype(jnp.dtype(dtype))
    found = dark_jax.decode_peaks(typed, max_peaks=20, threshold=60, min_distance=2)
    assert found.coords.dtype == jnp.float32
    for heatmap, scores in zip(typed.astype(np.float32), np.asarray(found.scores), strict=True):
        truth = expected(heatmap, threshold=60, distance=2, count=20)
        np.testing.assert_array_equal(scores[: len(truth)], [heatmap[p[::-1]] for p in truth])


def test_degenerate() -> None:
    """Maps without a NaN have finite coordinates and the peaks that the definition finds."""
    cases = synthetic.degenerate(SIZE)
    found = in_batches(lambda maps: nine(maps, 0.0), list(cases.values()), size=8)
    each = zip(cases.items(), found.coords, found.scores, found.status, strict=True)
    for (name, heatmap), coords, scores, status in each:
        if np.isnan(heatmap).any():
            assert np.isnan(coords).all(), name
            assert np.isnan(scores).all(), name
            assert (status == Status.NOT_FINITE).all(), name
            continue
        assert np.isfinite(coords).all(), name
        truth = expected(heatmap, threshold=0.0, distance=2, count=9)
        assert (scores > 0).sum() == len(truth), name
        assert (status[scores == 0] == Status.NO_PEAK).all(), name
        assert (status[np.isinf(scores)] == Status.NOT_FINITE).all(), name


@pytest.mark.slow
def test_gradient_in_a_crowd() -> None:
    """Gradients are finite and match central differences.

    ``test_gradients`` checks the same for bumps.
    """

    @jax.jit
    @jax.value_and_grad
    def both(m: jax.Array) -> jax.Array:
        found = dark_jax.decode_peaks(m, max_peaks=5, threshold=0.2, min_distance=2)
        return (found.coords @ jnp.array([1.0, 2.0], m.dtype)).sum() + found.scores.sum()

    heatmap = CASES["crowd 2"].astype(np.float64)
    nudge = synthetic.rng(8).standard_normal(SIZE)
    with jax.enable_x64(True):
        for values in CASES.values():
            assert np.isfinite(both(values.astype(np.float64))[1]).all()
        higher, lower = (float(both(heatmap + s * nudge)[0]) for s in (1e-6, -1e-6))
        found = (np.asarray(both(heatmap)[1]) * nudge).sum()
    np.testing.assert_allclose(found, (higher - lower) / 2e-6, rtol=tolerances.GRADIENT)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"max_peaks": 0}, ValueError, "max_peaks must be an integer of at least 1, got 0"),
        ({"max_peaks": 2.0}, TypeError, "max_peaks must be an integer of at least 1, got 2.0"),
        ({"min_distance": 0}, ValueError, "min_distance must be an integer of at least 1, got 0"),
        ({"threshold": np.nan}, ValueError, "threshold must be a number, got nan"),
        ({"threshold": np.ones(3)}, ValueError, r"threshold must broadcast to \(2,\)"),
        ({"threshold": "x"}, TypeError, "threshold must hold real numbers"),
        ({"background": np.nan}, ValueError, "background must be a number, got nan"),
        ({"background": np.ones(3)}, ValueError, r"background must broadcast to \(2,\)"),
        ({"background": None}, TypeError, "background must be a number or an array, got None"),
        ({"kernel_size": 4}, ValueError, "kernel_size must be an odd integer"),
        (
            {"kernel_size": 3, "blur_sigma": 1.0},
            ValueError,
            "give kernel_size or blur_sigma, not both",
        ),
        ({"axes": (1, 0)}, ValueError, "axes must be in increasing order"),
    ],
)
def test_bad_arguments_are_named(
    arguments: dict[str, Any], error: type[Exception], message: str
) -> None:
    options: dict[str, Any] = {"max_peaks": 3, "threshold": 0.1, "min_distance": 2} | arguments
    with pytest.raises(error, match=message):
        dark_jax.decode_peaks(np.ones((2, 8, 8)), **options)


def test_a_tie_with_a_flank_is_no_loss() -> None:
    """A pixel on the flank of a higher peak is not a peak, so it does not suppress an equal one.

    The second peak is near an equal pixel of that flank, but not near the first peak itself.
    """
    row = np.full((1, 12), 100, np.uint8)
    row[0, [0, 1, 2, 7]] = 255, 225, 155, 155
    for maps in (row, row[:, ::-1]):
        found = dark_jax.decode_peaks(maps, max_peaks=4, threshold=50, min_distance=5)
        np.testing.assert_array_equal(found.scores, [255, 155, 0, 0])


def test_one_slot_holds_the_first_of_many() -> None:
    """The hook is a plateau with two tops. It is searched again, however many slots there are."""
    heatmap = np.zeros((12, 60), np.float32)
    heatmap[3:10, 2] = heatmap[9, 2:50] = heatmap[1:10, 49] = 1
    one, many = (
        dark_jax.decode_peaks(heatmap, max_peaks=count, threshold=0.1, min_distance=3)
        for count in (1, 5)
    )
    np.testing.assert_array_equal(one.coords[0], many.coords[0])
    np.testing.assert_array_equal(many.scores, [1, 0, 0, 0, 0])


def test_a_level_way_past_a_higher_peak_leaves_two_in_place() -> None:
    """Two equal pixels are at the ends of a ridge whose middle touches a higher peak."""
    heatmap = np.zeros((16, 24), np.uint8)
    heatmap[8, 8:15] = 5
    heatmap[7, 11] = 9
    found = dark_jax.decode_peaks(heatmap, max_peaks=4, threshold=1, min_distance=1)
    np.testing.assert_array_equal(found.scores, [9, 5, 5, 0])
    ways = np.linalg.norm(np.diff(np.asarray(found.coords)[:3], axis=0), axis=-1)
    assert ways.min() > 1


def turned(maps: np.ndarray) -> dict[str, np.ndarray]:
    return {
        "turned": maps[:, ::-1, ::-1],
        "mirrored": maps[:, :, ::-1],
        "upside down": maps[:, ::-1],
        "transposed": maps.swapaxes(1, 2),
    }


@pytest.mark.parametrize("dtype", slow_but(["uint8"], ["uint8", "float16"]))
@pytest.mark.parametrize("distance", slow_but([3], [1, 3, 5]))
def test_turned_maps_have_the_same_peaks(dtype: str, distance: int) -> None:
    """Turned crowds of 15 with few distinct values have as many peaks, of the same heights."""
    size = (48, 48)
    maps, _ = synthetic.crowds(9, 120, size, peaks=15, separation=5, sigma=1.5, noise=0.02)
    maps = np.clip(np.round(250 * maps), 0, 255).astype(dtype)
    decode = functools.partial(
        dark_jax.decode_peaks, max_peaks=40, threshold=50, min_distance=distance
    )
    expected = decode(maps).scores
    for name, other in turned(maps).items():
        np.testing.assert_array_equal(decode(other).scores, expected, name)


def test_turned_flat_tops_are_at_the_same_place() -> None:
    """The middle of a plateau turns with the map."""
    y, x = np.mgrid[:24, :24]
    centres = np.array([[6, 7], [16.5, 8], [9, 17.5]])
    maps = np.zeros((1, 24, 24), np.float32)
    for a, b in centres:
        maps[0][(x - a) ** 2 + (y - b) ** 2 <= 6.3] = 1
    decode = functools.partial(dark_jax.decode_peaks, max_peaks=4, threshold=0.5, min_distance=2)
    back = {
        "turned": lambda c: 23 - c,
        "mirrored": lambda c: np.stack([23 - c[:, 0], c[:, 1]], axis=1),
        "upside down": lambda c: np.stack([c[:, 0], 23 - c[:, 1]], axis=1),
        "transposed": lambda c: c[:, ::-1],
    }
    for name, other in {"as it is": maps, **turned(maps)}.items():
        found = decode(other)
        assert found.scores[0].tolist() == [1, 1, 1, 0], name
        coords = back.get(name, lambda c: c)(np.asarray(found.coords)[0, :3])
        ways = np.linalg.norm(coords[:, None] - centres, axis=-1)
        assert ways.min(axis=1).max() < 0.15, name
        assert sorted(ways.argmin(axis=1)) == [0, 1, 2], name
