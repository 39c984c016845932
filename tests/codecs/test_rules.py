"""Published rules against golden answers of the originals and against transcribed texts.

Live answers of mmpose, rtmlib, transformers and face-alignment are in golden/homes.npz. DarkPose
is the reference of test_reference, and the others are transcribed. Other tests are about what the
rules share.
"""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import dark_jax
from dark_jax import Status, conventions, rules
from tests.golden import homes, make
from tests.rules_table import evidence
from tests.support import published, synthetic, tolerances
from tests.support.batches import in_batches
from tests.support.cases import slow_but

FLAT = [rule for rule in rules.PUBLISHED if 2 in rule.dims]
# The guard of FAN's original is for maps of 64 x 64, and so has a test of its own.
LIVE = [rule for rule in FLAT if evidence(rule) == "live" and rule is not rules.FAN]
# Rules whose answers are exact to the bit, because nothing is rounded.
TO_THE_BIT = (rules.HRNET, rules.MMPOSE_MSRA, rules.FAN, rules.ARGMAX)

# A rule that rescales, one that does not, and those of which there is one of a kind.
KINDS = (
    *(rules.MMPOSE_UDP, rules.VITPOSE, rules.HRNET, rules.MMPOSE_MSRA, rules.MEGVII),
    *(rules.UDP_POSE, rules.FAN, rules.SLEAP_INTEGRAL, rules.CAFFE2, rules.ARGMAX),
)
# The count and size of the golden maps. Tests that are not about a size decode such maps.
COUNT, SIZE = 364, (21, 18)


def decode(maps: np.ndarray, rule: rules.Rule, kernel: int = 11) -> dark_jax.Keypoints:
    """Decode any number of maps. Those of ``SIZE`` reuse the programs for the golden maps."""
    size = None if rule.kernel is None else kernel
    of_maps = functools.partial(dark_jax.decode, rule=rule, kernel_size=size)
    return in_batches(of_maps, maps, size=COUNT)


def coords(maps: np.ndarray, rule: rules.Rule, kernel: int = 11) -> np.ndarray:
    return np.asarray(decode(maps, rule, kernel).coords, np.float64)


def well_conditioned(answers: dict[str, np.ndarray]) -> np.ndarray:
    limit = tolerances.WELL_CONDITIONED
    return (answers["eigenvalue"] >= limit["eigenvalue"]) & (answers["step"] <= limit["step"])


@pytest.fixture(scope="module")
def golden() -> dict[str, np.ndarray]:
    with np.load(make.FILE) as reference, np.load(homes.FILE) as answers:
        maps = reference["maps"]
        assert maps.shape == (COUNT, *SIZE), "other maps would be batches of their own"
        return {"maps": maps, **answers}


# Every run tests kernel 11. Slow tests add a second one: 7, unless a transcription covers it.
HOME_CASES = slow_but(
    [(rule, 11) for rule in LIVE],
    [
        *((rule, 11) for rule in LIVE),
        (rules.MMPOSE_DARK, 7),
        (rules.HF_VITPOSE, 7),
        (rules.SAPIENS2, 7),
        (rules.VITPOSE, 3),
        (rules.MMPOSE_UDP, 17),
    ],
    unpack=True,
)


@pytest.mark.parametrize(("rule", "kernel"), HOME_CASES, ids=str)
def test_home(golden: dict[str, np.ndarray], rule: rules.Rule, kernel: int) -> None:
    """This is for finite maps with a positive maximum. ``test_sentinels`` is for the others."""
    maps = golden["maps"]
    kept = np.isfinite(maps).all((1, 2)) & (maps.max((1, 2)) > 0)
    key = f"{rule.name}/{kernel if rule.kernel else 1}"
    found, expected = coords(maps, rule, kernel)[kept], golden[key][kept]
    well = well_conditioned(published.answers(maps[kept], kernel, rule.name))
    assert well.sum() > 0.75 * kept.sum()
    limit = 0 if rule in TO_THE_BIT else tolerances.HOME
    assert np.abs(found - expected).max(axis=-1)[well].max() <= limit


def test_home_of_fan(golden: dict[str, np.ndarray]) -> None:
    """The answers are equal to the bit, with positive maxima and without them."""
    maps = synthetic.on_canvas(golden["maps"])
    finite = np.isfinite(maps).all((1, 2))
    found = dark_jax.decode(maps, rule=rules.FAN)
    np.testing.assert_array_equal(np.asarray(found.coords)[finite], golden["FAN/1"][finite])
    np.testing.assert_array_equal(np.asarray(found.scores)[finite], maps.max((1, 2))[finite])


def test_scores_of_megvii(golden: dict[str, np.ndarray]) -> None:
    """The original divides zero by zero on an empty map, whose score should be 0.5."""
    maps, expected = golden["maps"], golden["MEGVII/scores"]
    empty = (maps == 0).all((1, 2))
    kept = np.isfinite(maps).all((1, 2)) & ~empty
    found = np.asarray(decode(maps, rules.MEGVII).scores)
    np.testing.assert_allclose(found[kept], expected[kept], rtol=1e-6)
    assert empty.any()
    np.testing.assert_array_equal(found[empty], 0.5)


def test_a_centroid_outside_its_window() -> None:
    """Negative neighbours almost cancel the sum. The original returns the same place."""
    heatmap = np.zeros((9, 9), np.float32)
    heatmap[4, 4], heatmap[4, 5] = 1, -0.75
    found = dark_jax.decode(heatmap, rule=rules.SLEAP_INTEGRAL)
    np.testing.assert_array_equal(found.coords, [1, 4])
    assert found.status == Status.STEP_TOO_LONG
    heatmap[4, 5] = -2
    found = dark_jax.decode(heatmap, rule=rules.SLEAP_INTEGRAL)
    np.testing.assert_array_equal(found.coords, [4, 4])


def test_infinite_values_far_away() -> None:
    """The range of such a map is infinite, so the integer peak is kept."""
    heatmap = synthetic.draw(np.array([[9.3, 8.7]]), SIZE, sigma=2.0)[0].astype(np.float32)
    heatmap[0, 0] = -np.inf
    keypoints = dark_jax.decode(heatmap, rule=rules.UDP_POSE)
    np.testing.assert_array_equal(keypoints.coords, [9, 9])
    assert keypoints.status == Status.NOT_FINITE


@pytest.mark.parametrize("rule", FLAT, ids=str)
def test_sentinels(golden: dict[str, np.ndarray], rule: rules.Rule) -> None:
    """Sentinels are exact even where the original gives NaN or reads another map's memory."""
    maps = golden["maps"]
    keypoints = decode(maps, rule)
    none = ~(maps.max((1, 2)) > 0)
    nan = np.isnan(maps).any((1, 2))
    if rule.missing is not None:
        np.testing.assert_array_equal(np.asarray(keypoints.coords)[none], rule.missing)
    else:
        assert np.isnan(np.asarray(keypoints.coords)[nan]).all()
        assert np.isfinite(np.asarray(keypoints.coords)[~nan]).all()
    infinite = np.isinf(maps).all((1, 2))
    expected = np.where(nan | infinite, Status.NOT_FINITE, Status.NO_PEAK)
    np.testing.assert_array_equal(np.asarray(keypoints.status)[none], expected[none])


def _transcribed() -> list[Any]:
    """Every rule with both sizes, and with every kernel that ``test_home`` leaves out."""
    small, large = (7, 12), (24, 20)
    fast = [(small, rule, 7) for rule in (rules.DARKPOSE, *KINDS)]
    slow = [(large, rule, 1) for rule in FLAT if rule.kernel is None]
    for n, rule in enumerate(rule for rule in FLAT if rule.kernel is not None):
        slow += [((small, large)[n % 2], rule, 1), (large, rule, 3), (small, rule, 17)]
    return slow_but(fast, fast + slow, unpack=True)


@pytest.mark.parametrize(("size", "rule", "kernel"), _transcribed(), ids=str)
def test_transcription(size: tuple[int, int], rule: rules.Rule, kernel: int) -> None:
    """Rules match the float64 oracle on maps, sizes and kernels without golden answers."""
    if rule.kernel is None:
        kernel = 1
    cases = synthetic.reference_cases(size, count=3)
    if rule.rescale in (rules.Rescale.NO, rules.Rescale.TO_OLD_RANGE):
        # Blurred checkerboards are what large terms of both signs leave over. The originals and
        # these rules compute in float32: the error is 1.1e-4 px at kernel 17 on 7 x 12.
        del cases["checkerboard"]
    maps = np.concatenate([m for m in cases.values() if np.isfinite(m).all()])
    answers = published.answers(maps, kernel, rule.name)
    well = well_conditioned(answers)
    found = dark_jax.decode(maps, rule=rule, kernel_size=kernel if rule.kernel else None)
    error = np.abs(np.asarray(found.coords) - answers["coords"]).max(axis=-1)
    assert well.sum() > 0.4 * len(maps)
    assert error[well].max() <= (0 if rule in TO_THE_BIT else tolerances.HOME)
    scores = np.asarray(found.scores)[well]
    np.testing.assert_allclose(scores, answers["maxval"][well], rtol=2e-6)


@pytest.mark.parametrize("dtype", ["float16", "uint8"])
@pytest.mark.parametrize("rule", slow_but([rules.MMPOSE_MSRA], KINDS), ids=str)
def test_coarse_types(rule: rules.Rule, dtype: str) -> None:
    """Few levels make many ties. The answers are those for the same values in float64."""
    cases = synthetic.reference_cases((7, 12), count=3)
    maps = np.concatenate([m for m in cases.values() if np.isfinite(m).all()])
    maps = maps[np.abs(maps).max(axis=(1, 2)) < 200]
    maps = np.clip(np.round(40 * maps), 0, 255) if dtype == "uint8" else maps  # a ceiling is 50
    typed = maps.astype(dtype)
    answers = published.answers(typed.astype(np.float32), 7, rule.name)
    found = dark_jax.decode(typed, rule=rule, kernel_size=7 if rule.kernel else None)
    well = well_conditioned(answers)
    assert well.sum() > 0.4 * len(maps)
    error = np.abs(np.asarray(found.coords) - answers["coords"]).max(axis=-1)
    assert error[well].max() <= (0 if rule in TO_THE_BIT else tolerances.HOME)
    assert found.scores.dtype == np.float32


@pytest.mark.parametrize("rule", [rule for rule in FLAT if rule is not rules.UDP_POSE], ids=str)
def test_masked_maps(rule: rules.Rule) -> None:
    """-inf near a peak is a value below the floor, as in the originals, and spoils nothing else.

    The mask reaches the corners of what kernel 11 reads, and so some values of the stencil.
    """
    maps, points = synthetic.gaussians(0, 40, SIZE, sigma=1.5, margin=7.0)
    masked = synthetic.masked(maps, points, radius=8.0)
    kernel = 11 if rule.kernel else 1
    answers = published.answers(np.where(np.isinf(masked), -1e30, masked), kernel, rule.name)
    well = well_conditioned(answers)
    assert well.sum() > 20
    error = np.abs(coords(masked, rule) - answers["coords"]).max(axis=-1)
    assert error[well].max() <= tolerances.HOME


@pytest.mark.parametrize("rule", [rules.VITPOSE, rules.HF_VITPOSE], ids=str)
def test_masked_maps_under_a_wide_kernel(rule: rules.Rule) -> None:
    """The mask is under all taps but a few. The sums stay finite, and the peak stays in place."""
    maps, points = synthetic.gaussians(0, 12, SIZE, sigma=1.0, margin=0.0)
    masked = synthetic.masked(maps, points, radius=2.5)
    answers = published.answers(masked, 11, rule.name)
    np.testing.assert_allclose(coords(masked, rule), answers["coords"], atol=tolerances.HOME)


def test_real_maps(openfield_heatmaps: np.ndarray) -> None:
    maps = openfield_heatmaps.astype(np.float32)
    maps = maps.reshape(-1, *maps.shape[-2:])[:400]
    for rule in FLAT:
        answers = published.answers(maps, 11, rule.name)
        error = np.abs(coords(maps, rule, 11) - answers["coords"]).max(axis=-1)
        assert error[well_conditioned(answers)].max() <= tolerances.HOME, rule


def test_darkpose_is_the_reference_function(golden: dict[str, np.ndarray]) -> None:
    """They agree bit for bit, also on maps that the clamp changes."""
    found = decode(golden["maps"], rules.DARKPOSE)
    preds, maxvals = map(np.asarray, dark_jax.get_final_preds(golden["maps"][None], 11))
    np.testing.assert_array_equal(found.coords, preds[0])
    np.testing.assert_array_equal(found.scores, maxvals[0, :, 0])


def test_quarter_step_by_hand() -> None:
    """For HRNet x = 1 is too near the border, x = W - 2 is not. Tied neighbours give no step."""
    maps = np.zeros((3, *SIZE), np.float32)
    maps[0, 3, [1, 2]] = maps[1, 3, [16, 17]] = 1, 0.5
    maps[2, 3, [2, 3, 4]] = 0.5, 1, 0.5
    maps[2, 2, 3] = 0.3
    keypoints = decode(maps, rules.HRNET)
    np.testing.assert_array_equal(keypoints.coords, [[1, 3], [16.25, 3], [3, 2.75]])
    expected = [Status.BORDER, Status.REFINED, Status.REFINED]
    np.testing.assert_array_equal(keypoints.status, expected)


class TestStatus:
    """The status is what GUARDED would object to. The coordinates are still those of the rule."""

    def test_a_step_that_is_too_long(self) -> None:
        maps = synthetic.noise(0, 400, SIZE, zero_mean=False)
        keypoints = decode(maps, rules.VITPOSE)
        rows, columns = np.unravel_index(maps.reshape(400, -1).argmax(axis=1), SIZE)
        moved = np.linalg.norm(keypoints.coords - np.stack([columns, rows], axis=-1), axis=-1)
        status = np.asarray(keypoints.status)
        assert moved[status == Status.REFINED].max() <= 3.01
        assert moved[status == Status.STEP_TOO_LONG].min() >= 1.99
        assert moved[status == Status.NOT_CONCAVE].max() > 10

    @pytest.mark.parametrize("rule", [rules.VITPOSE, rules.HF_VITPOSE], ids=str)
    def test_the_largest_numbers_are_no_nan(self, rule: rules.Rule) -> None:
        """A ceiling scaled down with such maps would be zero, and its logarithm infinite."""
        largest = np.finfo(np.float32).max
        maps = np.full((COUNT, *SIZE), largest, np.float32)
        maps[1, 12, 10] = largest / 4
        maps[2] = maps[1] / 2
        keypoints = decode(maps, rule)
        assert np.isfinite(keypoints.coords).all()

    def test_a_border_that_is_crossed(self) -> None:
        maps = synthetic.draw(np.array([[0.2, 9.3]]), SIZE, sigma=2.0).astype(np.float32)
        keypoints = decode(maps, rules.VITPOSE)
        assert keypoints.status[0] == Status.BORDER
        assert abs(float(keypoints.coords[0, 1]) - 9.3) < 0.05

    def test_a_clamp_that_hides_the_peak(self) -> None:
        """Originals that have a floor of 1e-3 fail silently on maps of another scale."""
        maps, _ = synthetic.gaussians(0, COUNT, SIZE, sigma=2.0, margin=6.0)
        maps *= np.float32(1e-3)
        for rule in (rules.MMPOSE_UDP, rules.VITPOSE, rules.HF_VITPOSE, rules.SAPIENS2):
            keypoints = decode(maps, rule)
            assert (np.asarray(keypoints.status) == Status.NOT_CONCAVE).all()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("rule", "leading"),
    [
        (rules.MMPOSE_UDP, (2, 3)),
        (rules.MMPOSE_UDP, ()),
        (rules.DARKPOSE, (6,)),
        (rules.DARKPOSE, (2, 1, 3)),
    ],
    ids=str,
)
def test_whole_maps_under_any_leading_axes(rule: rules.Rule, leading: tuple[int, ...]) -> None:
    """The clamp changes these maps, so the whole map is blurred instead of a window."""
    maps = synthetic.gaussians(0, 6, (20, 16), sigma=1.5, margin=5.0)[0]
    # UDP's stencil is so narrow that only low maps meet its floor.
    height = np.float32(1 if rule is rules.DARKPOSE else 0.004)
    maps = height * synthetic.cut(maps, threshold=0.6)[: int(np.prod(leading))]
    answers = published.answers(maps, 3, rule.name)
    assert answers["clamped"].any()
    shaped = maps.reshape(*leading, 20, 16)
    channels = np.moveaxis(shaped, -3, -1) if leading else shaped
    for values, axes in ((shaped, (-2, -1)), (channels, (-3, -2) if leading else (-2, -1))):
        found = np.asarray(dark_jax.decode(values, rule=rule, kernel_size=3, axes=axes).coords)
        assert found.shape == (*leading, 2)
        np.testing.assert_allclose(
            found.reshape(-1, 2), answers["coords"], rtol=0, atol=tolerances.HOME
        )


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (
            {"rule": "DARKPOSE"},
            TypeError,
            "rule must be a Rule of dark_jax.rules, as rules.GUARDED, .*, got 'DARKPOSE'",
        ),
        ({"rule": rules.HRNET, "kernel_size": 3}, ValueError, "rule HRNET does not blur"),
        ({"rule": rules.VITPOSE, "axes": (-1,)}, ValueError, "of dimension 2, got 1: give"),
        ({"rule": rules.MMPOSE_SIMCC_DARK}, ValueError, "of dimension 1, got 2: give"),
    ],
)
def test_bad_arguments_are_named(
    arguments: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        dark_jax.decode(np.ones((8, 8)), **arguments)


def test_porting_names_what_exists() -> None:
    """Each call can be traced, and each convention is one of the module's."""
    maps = np.ones((2, 8, 9), np.float32)
    names = {"h": maps, "x_bins": maps[:, 0], "y_bins": maps[..., 0], "beta": 1.0, "debias": True}
    names |= {"jnp": jnp, "rules": rules, "sigma": 2.0, **vars(dark_jax)}
    ported = [port for port in rules.PORTING if port.decode]
    assert len(ported) > 20
    for port in ported:
        found: Any = jax.eval_shape(functools.partial(eval, port.decode, names))
        assert found.coords.shape[-1] in (2, 3)
    used = {port.convention for port in rules.PORTING if port.convention}
    assert used <= {convention.name for convention in conventions.CONVENTIONS}
    asked = [rule for rule in rules.PUBLISHED if any(rule.name in port.decode for port in ported)]
    assert set(asked) == set(rules.PUBLISHED)


def test_refined_only_is_of_every_step() -> None:
    """This includes steps of fixed length: a pixel that is not finite keeps the peak in place."""
    heatmap = np.zeros((6, 7), np.float32)
    heatmap[3, 2:5] = -np.inf, 1, 0.5
    careful = dataclasses.replace(rules.HRNET, name="CAREFUL", refined_only=True)
    for rule, expected in ((rules.HRNET, [3.25, 3]), (careful, [3, 3])):
        keypoints = dark_jax.decode(heatmap, rule=rule)
        np.testing.assert_array_equal(keypoints.coords, expected)
        assert keypoints.status == Status.NOT_FINITE


def test_fields_that_exclude_each_other() -> None:
    wrong: list[tuple[rules.Rule, dict[str, Any], str]] = [
        (rules.MMPOSE_UDP, {"clip_infinity": True}, "rescale must be Rescale.NO with clip_inf"),
        (
            rules.VITPOSE,
            {"covariance": True},
            "refined_only must be True with covariance=True",
        ),
        (
            rules.GUARDED,
            {"fixed_step": 0.25},
            "fixed_step must be None with covariance=True",
        ),
        (rules.VITPOSE, {"refined_only": True}, "ridge must be 0 with refined_only=True, got 1.19"),
        (rules.HRNET, {"peak_of_blurred": True}, "peak_of_blurred must be False with kernel=None"),
        (rules.FAN, {"centroid": 1}, "fixed_step must be None with centroid=1, got 0.25"),
        (rules.VITPOSE, {"centroid": 1}, "kernel must be None with centroid=1, got <function"),
        (rules.VITPOSE, {"score_at_step": True}, "logarithm must be False with score_at_step=True"),
    ]
    for rule, change, message in wrong:
        with pytest.raises(ValueError, match=f"rule {rule.name}: {message}"):
            dataclasses.replace(rule, **change)


def test_rules_of_ones_own() -> None:
    """A rule with another value runs. One that ``decode`` cannot run is refused."""
    compact = dataclasses.replace(rules.GUARDED, name="COMPACT", stencil=rules.COMPACT)
    heatmap = synthetic.draw(np.array([[9.3, 8.7]]), (20, 16), sigma=2.0)[0]
    np.testing.assert_allclose(dark_jax.decode(heatmap, rule=compact).coords, [9.3, 8.7], atol=0.01)
    with pytest.raises(ValueError, match="rule MMPOSE_UDP must satisfy 0 < floor < ceiling"):
        dataclasses.replace(rules.MMPOSE_UDP, floor=60.0)
