"""Errors about a wrong argument state its name, the value received and the cure."""

import re
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest

import dark_jax
from dark_jax import coco, conventions, metrics, rules
from tests.contracts.test_api import FUNCTIONS
from tests.support.by_hand import keypoints_of

SIZE = (16, 12)
MAPS = np.zeros((2, 3, *SIZE), np.float32)
MAPS[..., 8, 6] = 1
POINTS = np.ones((2, 3, 2), np.float32)
AFFINE = np.array([[2.0, 0.0, 0.5], [0.0, 2.0, 0.5]], np.float32)
KEYPOINTS = keypoints_of(POINTS, MAPS.max((-2, -1)), np.zeros((2, 3)), np.ones((2, 3, 2, 2)))
SCORED: dict[str, Any] = {"coords": POINTS, "truth": POINTS, "visible": 1.0}
CROP: dict[str, Any] = {"input_size": SIZE, "map_size": SIZE, "convention": conventions.UDP}

# For each function that takes arrays, a call with all of its array arguments.
CALLS: dict[str, dict[str, Any]] = {
    "apply_affine": {"coords": POINTS, "affine": AFFINE, "spacing": None},
    "box_to_affine": {
        "boxes": np.ones((2, 4)),
        "padding": 1.0,
        "rotation": 0.0,
        "map_size": SIZE,
        "convention": conventions.UDP,
    },
    "coco.results": {"keypoints": KEYPOINTS, "image_ids": [1, 2], "scores": [1.0, 1.0]},
    "crop": {"images": np.ones((8, 8, 3)), "affine": AFFINE, "fill": 0.0, **CROP},
    "decode": {"heatmaps": MAPS},
    "decode_fit": {"heatmaps": MAPS, "sigma": np.float32(2), "radius": 3, "background": 0.0},
    "decode_peaks": {
        "heatmaps": MAPS,
        "threshold": 0.1,
        "background": 0.0,
        "max_peaks": 2,
        "min_distance": 2,
    },
    "decode_simcc": {"x_bins": MAPS[..., 0, :], "y_bins": MAPS[..., 0]},
    "simcc_visibility": {
        "x_bins": MAPS[..., 0, :],
        "y_bins": MAPS[..., 0],
        "sigma": np.float32(6),
        "beta": 150.0,
    },
    "decode_soft_argmax": {"heatmaps": MAPS, "temperature": 0.1},
    "encode": {"coords": POINTS, "size": SIZE, "sigma": np.float32(2), "visible": True},
    "estimate_sigma": {"heatmaps": MAPS, "background": 0.0},
    "flip_heatmaps": {"heatmaps": MAPS, "pairs": ((0, 1),), "shift": 0},
    "gaussian_blur": {"heatmaps": MAPS},
    "get_final_preds": {"heatmaps": MAPS},
    "get_max_preds": {"heatmaps": MAPS},
    "invert_affine": {"affine": AFFINE},
    "merge_flipped": {"heatmaps": MAPS, "flipped": MAPS},
    "taylor": {"heatmap": MAPS[0, 0], "coord": POINTS[0, 0]},
    "to_image": {"keypoints": KEYPOINTS, "affine": AFFINE, "spacing": None},
    "metrics.auc": {**SCORED, "thresholds": (1.0, 2.0), "normalize": 1.0},
    "metrics.epe": SCORED,
    "metrics.nme": {**SCORED, "normalize": 1.0},
    "metrics.oks": {**SCORED, "area": 1.0, "sigmas": 0.1},
    "metrics.pck": {**SCORED, "threshold": 1.0, "normalize": 1.0},
    "metrics.pckh": {**SCORED, "threshold": 1.0, "head_boxes": [0.0, 0.0, 1.0, 1.0]},
}
ARRAYS = [
    (name, parameter)
    for name, function in FUNCTIONS.items()
    for parameter, annotation in function.__annotations__.items()
    if "ArrayLike" in annotation and parameter != "return"
]
NO_ARRAYS: dict[str, Any] = {
    "a word": "wide",
    "a dictionary": {"x": 1.0},
    "lists of unequal lengths": [[1.0, 2.0], [3.0]],
    "complex": np.ones((2, 3), complex),
    "times": np.ones((2, 3), "m8[s]"),
    "objects": np.full((2, 3), None),
    "a key": jax.random.key(0),
    "a shape": jax.ShapeDtypeStruct((2, 3), jnp.float32),
}


def test_every_array_is_tried() -> None:
    assert {name for name, _ in ARRAYS} == {*CALLS}
    assert all(parameter in CALLS[name] for name, parameter in ARRAYS)


@pytest.mark.parametrize(("name", "parameter"), ARRAYS)
def test_what_is_no_array(name: str, parameter: str) -> None:
    """The error names the argument, and does not come from inside NumPy or JAX."""
    for kind, value in NO_ARRAYS.items():
        with pytest.raises(TypeError, match=rf"^{parameter} must ") as error:
            FUNCTIONS[name](**{**CALLS[name], parameter: value})
        assert len(str(error.value)) < 400, kind


@pytest.mark.parametrize(("name", "parameter"), ARRAYS)
def test_keypoints_are_no_array(name: str, parameter: str) -> None:
    if name != "coco.results":  # its other arrays are ids and scores
        with pytest.raises(TypeError, match=f"^{parameter} must be .*: give keypoints.coords, "):
            FUNCTIONS[name](**{**CALLS[name], parameter: KEYPOINTS})


def test_masked_arrays_are_refused() -> None:
    """A masked array is refused because its mask would be ignored."""
    masked = np.ma.masked_greater(MAPS, 0.5)
    with pytest.raises(TypeError, match=r"heatmaps must be an array without a mask.*fill it first"):
        dark_jax.decode(masked)


@pytest.mark.parametrize("dtype", ["int4", "uint4", "int2", "float8_e4m3fn", "float4_e2m1fn"])
def test_narrow_numbers(dtype: str) -> None:
    """Numbers of at most 8 bits, as networks for small devices give them, decode as float32."""
    narrow = MAPS.astype(getattr(ml_dtypes, dtype))
    expected = dark_jax.decode(narrow.astype(np.float32))
    for function in (dark_jax.decode, jax.jit(dark_jax.decode)):
        if function is dark_jax.decode or dtype not in ("int2", "float4_e2m1fn"):  # JAX lacks both
            found = function(narrow)
            for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
                np.testing.assert_array_equal(a, b)


def test_arrays_of_other_libraries() -> None:
    """Whatever NumPy can read is accepted: an HDF5 dataset, pandas, xarray, torch."""

    class Other:
        shape, dtype = MAPS.shape, MAPS.dtype

        def __array__(self, dtype: Any = None, copy: Any = None) -> np.ndarray:
            return MAPS

    np.testing.assert_array_equal(dark_jax.decode(Other()).coords, dark_jax.decode(MAPS).coords)  # pyright: ignore[reportArgumentType]


class TestUnderJit:
    """Options are given to the jitted function, as in a user's first attempt."""

    @pytest.mark.parametrize("rule", [rules.VITPOSE, rules.DARKPOSE])
    def test_rules_pass(self, rule: rules.Rule) -> None:
        found = jax.jit(dark_jax.decode)(MAPS, rule=rule)
        expected = dark_jax.decode(MAPS, rule=rule)
        np.testing.assert_array_equal(found.coords, expected.coords)

    def test_conventions_pass(self) -> None:
        """Conventions pass ``vmap`` too. Each is a pytree without leaves, compiled by itself."""
        boxes = np.array([[3.0, 4.0, 30.0, 40.0]])

        def affine(boxes: Any, convention: conventions.Convention) -> jax.Array:
            return dark_jax.box_to_affine(boxes, map_size=SIZE, convention=convention)

        for convention in conventions.CONVENTIONS:
            assert jax.tree.leaves(convention) == []
            expected = affine(boxes, convention)
            for found in (jax.jit(affine), jax.vmap(affine, in_axes=(0, None))):
                np.testing.assert_allclose(found(boxes, convention), expected, atol=1e-5)

    @pytest.mark.parametrize(
        ("function", "arguments"),
        [
            (dark_jax.decode, {"heatmaps": MAPS, "kernel_size": 7}),
            (dark_jax.decode, {"heatmaps": MAPS, "blur_sigma": 2.0}),
            (dark_jax.decode, {"heatmaps": MAPS, "blur_sigma": (2.0, 1.0)}),
            (dark_jax.decode, {"heatmaps": MAPS, "covariance": True}),
            (dark_jax.decode, {"heatmaps": MAPS, "axes": (-2, -1)}),
            (dark_jax.decode, {"heatmaps": MAPS, "axes": np.array([-2, -1])}),
            (dark_jax.decode_fit, {"heatmaps": MAPS, "sigma": (2.0, 1.0)}),
            (dark_jax.decode_fit, {"heatmaps": MAPS, "sigma": (2.0, 1.0), "radius": 3}),
            (dark_jax.decode_peaks, {**CALLS["decode_peaks"], "max_peaks": 3}),
            (dark_jax.encode, {"coords": POINTS, "size": SIZE}),
            (dark_jax.encode, {"coords": POINTS, "size": np.array(SIZE)}),
            (dark_jax.estimate_sigma, {"heatmaps": MAPS, "max_sigma": 3.0}),
            (dark_jax.flip_heatmaps, CALLS["flip_heatmaps"]),
            (dark_jax.flip_heatmaps, {**CALLS["flip_heatmaps"], "pairs": np.array([[0, 1]])}),
            (dark_jax.box_to_affine, {**CALLS["box_to_affine"], "keep_aspect": True}),
            (metrics.pck, {**CALLS["metrics.pck"], "axis": 0}),
        ],
    )
    def test_the_others_are_bound_before(
        self, function: Callable[..., Any], arguments: dict[str, Any]
    ) -> None:
        with pytest.raises(
            (TypeError, ValueError), match=r"bind it before jit, for example with functools"
        ):
            jax.jit(function)(**arguments)

    @pytest.mark.parametrize(
        "function",
        [
            lambda found: coco.results(found, image_ids=[1, 2]),
            lambda found: dark_jax.save(found, "out.csv"),
        ],
    )
    def test_files_want_values(self, function: Callable[[Any], Any]) -> None:
        with pytest.raises(TypeError, match="keypoints must not be traced"):
            jax.jit(function)(KEYPOINTS)

    def test_lists_of_traced_numbers_are_arrays(self) -> None:
        found = jax.jit(dark_jax.apply_affine)([1.0, 2.0], AFFINE.tolist())
        assert found.tolist() == [2.5, 4.5]


NO_BLOB = "which estimate_sigma returns if it finds no clear blob: look at the maps"


@pytest.mark.parametrize(
    "decode",
    [
        lambda sigma: dark_jax.decode_fit(MAPS, sigma=sigma),
        lambda sigma: dark_jax.decode_fit(MAPS, sigma=(2.0, sigma)),
        lambda sigma: dark_jax.decode_fit(MAPS, sigma=sigma * np.ones((3, 1)), radius=3),
        lambda sigma: dark_jax.decode(MAPS, blur_sigma=sigma),
        lambda sigma: dark_jax.decode_peaks(
            MAPS, max_peaks=1, threshold=0, min_distance=1, blur_sigma=sigma
        ),
        lambda sigma: dark_jax.encode(POINTS, size=SIZE, sigma=sigma),
    ],
)
def test_an_estimate_of_nothing(decode: Callable[[Any], Any]) -> None:
    """The sigma is an estimate from maps without a blob."""
    nothing = dark_jax.estimate_sigma(np.zeros((2, 3, *SIZE), np.float32))
    with pytest.raises(ValueError, match=rf"sigma must be .*positive.*got inf, {NO_BLOB}"):
        decode(nothing)


def test_short_floats_are_numbers() -> None:
    """float16 gives no warning, although it does not hold the limits of float32."""
    for sigma in (np.float16(2), jnp.float16(2), jnp.bfloat16(2)):
        found = dark_jax.decode_fit(MAPS, sigma=sigma, radius=3)  # pyright: ignore[reportArgumentType]
        expected = dark_jax.decode_fit(MAPS, sigma=2.0, radius=3)
        np.testing.assert_array_equal(found.coords, expected.coords)
    with pytest.raises(TypeError, match="sigma must be a positive, finite number, got True"):
        dark_jax.decode_fit(MAPS, sigma=True)
    with pytest.raises(ValueError, match="sigma must be a positive, finite number, got inf"):
        dark_jax.decode(MAPS, blur_sigma=10**400)


@pytest.mark.parametrize("sigma", [1e300, 1e-300, np.float64(1e39)])
def test_numbers_beyond_float32(sigma: float) -> None:
    """The numbers are finite, but computing with them takes float32, which cannot hold them."""
    decoders: list[tuple[Any, str]] = [
        (dark_jax.decode, "blur_sigma"),
        (dark_jax.decode_fit, "sigma"),
    ]
    for decode, name in decoders:
        with pytest.raises(ValueError, match=rf"^{name} must be .*(float32 can hold|at least)"):
            decode(MAPS, **{name: sigma})
    with pytest.raises(ValueError, match=r"sigma must be a number that float32 can hold"):
        dark_jax.encode(POINTS, size=SIZE, sigma=sigma)
    with pytest.raises(ValueError, match=r"sigma must be at least .* and at most"):
        dark_jax.encode(POINTS, size=SIZE, sigma=[sigma, 1.0])
    with pytest.raises(ValueError, match=r"padding must be at least .* and at most"):
        dark_jax.box_to_affine(np.ones(4), map_size=SIZE, convention=conventions.UDP, padding=sigma)


RULE_FIELDS: list[tuple[dict[str, Any], type[Exception], str]] = [
    ({"padding": "zeros"}, TypeError, "padding must be a rules.Padding, got 'zeros'"),
    ({"rescale": "no"}, TypeError, "rescale must be a rules.Rescale, got 'no'"),
    ({"stencil": (2, 4)}, TypeError, r"stencil must be a rules.Stencil, got \(2, 4\)"),
    ({"kernel": 11}, TypeError, "kernel must be a function, got 11"),
    ({"kernel_size": 4}, ValueError, "kernel_size must be an odd integer of at least 1, got 4"),
    ({"dims": 2}, TypeError, "dims must be some of 1, 2 and 3, got 2"),
    ({"dims": (4,)}, ValueError, r"dims must be some of 1, 2 and 3, got \(4,\)"),
    ({"margin": (-1, 2)}, ValueError, r"margin must be two integers of at least 0, got \(-1, 2\)"),
    ({"floor": "a"}, ValueError, "floor must be a number of at least 0, got 'a'"),
    ({"ridge": -1.0}, ValueError, r"ridge must be a number of at least 0, got -1\.0"),
    ({"fixed_step": np.nan}, ValueError, "fixed_step must be a number of at least 0, got nan"),
    ({"longest": None}, ValueError, "longest must be a number of at least 0, got None"),
    ({"missing": "x"}, TypeError, "missing must be a number or None, got 'x'"),
    ({"scale_free": 1}, TypeError, "scale_free must be True or False, got 1"),
    ({"margin_across": (1,)}, ValueError, r"margin_across must be two integers .* got \(1,\)"),
    ({"centroid": 0}, ValueError, "centroid must be an integer of at least 1, got 0"),
    ({"least_det": -1e-4}, ValueError, "least_det must be a number of at least 0, got -0.0001"),
    ({"largest_component": "a"}, ValueError, "largest_component must be a number of at least 0"),
    ({"shift": np.inf}, ValueError, "shift must be a finite number, got inf"),
    ({"fixed_step": np.inf}, ValueError, "fixed_step must be a finite number, got inf"),
    ({"score_scale": None}, ValueError, "score_scale must be a finite number, got None"),
    ({"peak_of_blurred": None}, TypeError, "peak_of_blurred must be True or False, got None"),
]


@pytest.mark.parametrize(("fields", "error", "message"), RULE_FIELDS)
def test_rules_of_ones_own(fields: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=f"rule MINE: {message}"):
        rules.Rule(**{"name": "MINE", "source": "ours", **fields})
    lists = rules.Rule(name="MINE", source="ours", dims=[2], margin=[2, 2])  # pyright: ignore[reportArgumentType]
    assert hash(lists) == hash(rules.Rule(name="MINE", source="ours"))


def test_stencils_and_conventions_of_ones_own() -> None:
    for reach, corners in ((0, 2), (3, 4), (1, 3)):
        with pytest.raises(ValueError, match="a stencil must have a reach of 1 or 2 and 2 or 4"):
            rules.Stencil(reach, corners)
    wrong: list[tuple[dict[str, Any], str]] = [
        ({"map_middle": np.nan}, "map_middle must be a finite number, got nan"),
        ({"box_middle": np.array(0.5)}, "box_middle must be a finite number, got array"),
        ({"turn": 0}, "turn must be 1 or -1, got 0"),
    ]
    for fields, message in wrong:
        with pytest.raises(ValueError, match=f"convention MINE: {message}"):
            conventions.Convention(name="MINE", source="ours", **fields)
    with pytest.raises(TypeError, match="convention MINE: one_scale must be True or False"):
        conventions.Convention(name="MINE", source="ours", one_scale="no")  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize("area", [np.nan, np.inf, [[1.0, np.nan]]])
def test_areas_are_finite(area: Any) -> None:
    """For such an area an OKS of 0 would say that nobody was found."""
    with pytest.raises(ValueError, match=r"area must be finite, got (nan|inf)"):
        metrics.oks(POINTS[None], POINTS, area=area, sigmas=0.1)
    traced = jax.jit(lambda a: metrics.oks(POINTS, POINTS, area=a, sigmas=0.1))
    np.testing.assert_array_equal(traced(np.array([np.nan, 1.0])), [np.nan, 1.0])


def test_messages_are_one_line() -> None:
    """A message fits on one line, as the command prints it, and does not repeat itself."""
    with pytest.raises(TypeError) as error:
        dark_jax.decode({"heatmaps": MAPS})  # pyright: ignore[reportArgumentType]
    assert not re.search(r"\bNoneType\b.*\bNoneType\b", str(error.value))
