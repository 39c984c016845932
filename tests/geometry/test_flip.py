"""The flip test follows the rule of HRNet, and its shift aligns the maps."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import dark_jax
from dark_jax import conventions, skeletons
from tests.support import synthetic

SIZE, INPUT = (16, 12), (64, 48)
PAIRS = ((0, 2), (4, 3))


def maps(shape: tuple[int, ...] = (2, 5, *SIZE)) -> np.ndarray:
    return synthetic.rng(0).standard_normal(shape).astype(np.float32)


SHIFTS = (0, 1, 2, 11)


@jax.jit
def shifted(values: Any) -> list[jax.Array]:
    return [dark_jax.flip_heatmaps(values, PAIRS, shift=shift) for shift in SHIFTS]


@pytest.mark.parametrize("shift", SHIFTS)
def test_as_hrnet_does(shift: int) -> None:
    """Maps are mirrored, exchanged and shifted; the first columns are not shifted. Jit agrees."""
    values = maps()
    expected = np.empty_like(values)
    for joint, other in enumerate((2, 1, 0, 4, 3)):
        for column in range(12):
            source = column if column < shift else column - shift
            expected[:, joint, :, column] = values[:, other, :, 11 - source]
    np.testing.assert_array_equal(shifted(values)[SHIFTS.index(shift)], expected)
    if shift == 1:
        found = dark_jax.flip_heatmaps(values, PAIRS, shift=shift)
        np.testing.assert_array_equal(found, expected)


def test_twice_is_nothing() -> None:
    values = maps((2, 17, *SIZE))
    once = dark_jax.flip_heatmaps(values, skeletons.COCO.pairs, shift=0)
    twice = dark_jax.flip_heatmaps(once, skeletons.COCO.pairs, shift=0)
    np.testing.assert_array_equal(twice, values)
    assert (np.asarray(once) != values).any()


@pytest.mark.parametrize(
    ("moved", "joint_axis", "axes"),
    [
        ((0, 2, 3, 1), -1, (-3, -2)),
        ((1, 0, 2, 3), 0, (2, 3)),
        ((2, 0, 3, 1), -1, (0, 2)),
    ],
)
def test_layouts(moved: tuple[int, ...], joint_axis: int, axes: tuple[int, ...]) -> None:
    values = maps()
    expected = dark_jax.flip_heatmaps(values, PAIRS, shift=1)
    other = values.transpose(moved)
    found = dark_jax.flip_heatmaps(other, PAIRS, shift=1, joint_axis=joint_axis, axes=axes)
    np.testing.assert_array_equal(found, np.asarray(expected).transpose(moved))


def test_rows_of_bins() -> None:
    """The x bins of SimCC are mirrored as a map of one dimension."""
    values = maps()
    expected = np.asarray(dark_jax.flip_heatmaps(values, PAIRS, shift=1))
    found = dark_jax.flip_heatmaps(values[..., 0, :], PAIRS, shift=1, joint_axis=-2, axes=(-1,))
    np.testing.assert_array_equal(found, expected[..., 0, :])


@pytest.mark.parametrize("dtype", ["bfloat16", "float32", "uint8"])
def test_any_type(dtype: str) -> None:
    values = (np.abs(maps()) * 30).astype(jnp.dtype(dtype))
    flipped = dark_jax.flip_heatmaps(values, PAIRS, shift=1)
    assert flipped.dtype == values.dtype
    merged = dark_jax.merge_flipped(values, flipped)
    assert merged.dtype == jnp.float32
    expected = (np.asarray(values, np.float32) + np.asarray(flipped, np.float32)) * 0.5
    np.testing.assert_array_equal(merged, expected)


# The right shift and the offset that it leaves, in pixels of the map, at stride 4.
RIGHT = {
    "DARKPOSE": (0, 0.0),
    "HRNET": (1, 0.25),
    "MMPOSE": (1, 0.25),
    "UDP": (0, 0.0),
    "HALF_PIXEL": (0, 0.0),
    "DEEPLABCUT": (0, 0.25),
    "FAN": (0, 0.0),
    "SLEAP": (1, 0.25),
}


def drawn(points: Any) -> np.ndarray:
    return synthetic.draw(np.asarray(points), SIZE, sigma=1.0).astype(np.float32)


@pytest.mark.parametrize("convention", conventions.CONVENTIONS, ids=str)
def test_the_right_shift(convention: conventions.Convention) -> None:
    """An exact network sees a mirrored input. Its maps come back, ``left`` pixels off."""
    shift, left = RIGHT[convention.name]
    # The coordinates of FAN contain half a pixel.
    half = np.float32(0.5 if convention is conventions.FAN else 0)
    to_map = dark_jax.invert_affine(
        dark_jax.map_to_input(map_size=SIZE, input_size=INPUT, convention=convention)
    )
    inputs = np.array([[20.3, 30.6], [26.1, 35.2]], np.float32)
    mirrored = np.stack([47 - inputs[:, 0], inputs[:, 1]], axis=-1)
    seen = drawn(dark_jax.apply_affine(mirrored, to_map) - half)
    truth = np.asarray(dark_jax.apply_affine(inputs, to_map)) + np.array([left, 0], np.float32)
    truth -= half
    expected = drawn(truth)

    def error(shift: int) -> float:
        flipped = np.asarray(dark_jax.flip_heatmaps(seen[:, None], (), shift=shift))[:, 0]
        # The first column is left out, because it is not shifted.
        return float(np.abs(flipped - expected)[..., 1:].max())

    assert error(shift) < 1e-5
    assert error(1 - shift) > 0.4


@pytest.mark.parametrize(
    ("pairs", "options", "error", "match"),
    [
        (((0, 1), (1, 2)), {}, ValueError, "pairs must name no joint twice"),
        (((3, 3),), {}, ValueError, "pairs must name no joint twice"),
        (((0, 5),), {}, ValueError, r"pairs must be joints from 0 to 4, got \(\(0, 5\),\)"),
        (((-1, 0),), {}, ValueError, "pairs must be joints from 0 to 4"),
        (((0, 1, 2),), {}, ValueError, r"pairs must be pairs of joints, got \(0, 1, 2\)"),
        ((0, 1), {}, TypeError, "pairs must be pairs of joints, got 0"),
        (((0.0, 1.0),), {}, TypeError, "pairs must be pairs of joints, got 0.0"),
        ("01", {}, TypeError, "pairs must be pairs of joints"),
        ((), {"shift": -1}, ValueError, "shift must be an integer from 0 to 11, got -1"),
        ((), {"shift": 12}, ValueError, "shift must be an integer from 0 to 11, got 12"),
        ((), {"shift": True}, TypeError, "shift must be an integer"),
        ((), {"shift": 0.5}, TypeError, "shift must be an integer"),
        ((), {"joint_axis": -1}, ValueError, "joint_axis must be one of .* got -1"),
        ((), {"joint_axis": 4}, ValueError, "joint_axis must be one of .* got 4"),
        ((), {"axes": (-1, -2)}, ValueError, "axes must be in increasing order"),
    ],
    ids=str,
)
def test_errors(pairs: Any, options: dict[str, Any], error: type[Exception], match: str) -> None:
    given: dict[str, Any] = {"shift": 1} | options
    with pytest.raises(error, match=match):
        dark_jax.flip_heatmaps(maps(), pairs, **given)


def test_no_shift_is_the_default() -> None:
    with pytest.raises(TypeError, match="shift"):
        dark_jax.flip_heatmaps(maps(), PAIRS)  # pyright: ignore[reportCallIssue]


def test_merge_refuses_other_shapes() -> None:
    with pytest.raises(ValueError, match="flipped must have the shape of heatmaps"):
        dark_jax.merge_flipped(maps(), maps()[:1])
