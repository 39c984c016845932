"""Conventions map heatmap pixels to image pixels as their original implementations do."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import dark_jax
from dark_jax import conventions
from tests.support import convention_homes, tolerances
from tests.support.convention_cases import BOXES, POINTS, SIZE, affine, affine_of, each_convention
from tests.support.convention_homes import TURNING


class TestConventions:
    def test_are_rows_named_as_the_module_names_them(self) -> None:
        found = {
            k: v for k, v in vars(conventions).items() if isinstance(v, conventions.Convention)
        }
        assert {c.name: c for c in conventions.CONVENTIONS} == found
        assert str(conventions.UDP) == "conventions.UDP"
        assert hash(conventions.UDP) == hash(dataclasses.replace(conventions.UDP))

    def test_are_frozen(self) -> None:
        with pytest.raises(dataclasses.FrozenInstanceError):
            conventions.UDP.map_less = 0  # pyright: ignore[reportAttributeAccessIssue]

    def test_one_of_ones_own_is_as_good(self) -> None:
        mine = conventions.Convention(name="MINE", source="here", map_middle=0.5, box_middle=0.5)
        np.testing.assert_allclose(affine(mine), affine(conventions.HALF_PIXEL), rtol=1e-6)


class TestHomes:
    @pytest.mark.parametrize(
        ("convention", "degrees"),
        [(c, 0.0) for c in conventions.CONVENTIONS]
        + [(c, d) for c in conventions.CONVENTIONS for d in (30.0, -75.0) if c.name in TURNING],
        ids=str,
    )
    def test_exact(self, convention: conventions.Convention, degrees: float) -> None:
        """Boxes are turned where the original implementation can turn them."""
        with jax.enable_x64(True):
            for padding in (1.0, 1.25):
                found = np.asarray(affine(convention, rotation=degrees, padding=padding))
                assert found.dtype == jnp.float64
                for box, one in zip(BOXES, found, strict=True):
                    home = convention_homes.HOMES[convention.name]
                    expected = home(box, (48, 64), padding, degrees)(POINTS)
                    pushed = dark_jax.apply_affine(POINTS, one)
                    np.testing.assert_allclose(pushed, expected, rtol=0, atol=1e-9)

    @each_convention
    def test_near_in_float32(self, convention: conventions.Convention) -> None:
        with jax.enable_x64(True):
            push = np.asarray(affine(convention, rotation=30.0))
            exact = dark_jax.apply_affine(POINTS, push[0])
        boxes, points = BOXES.astype(np.float32), POINTS.astype(np.float32)
        push = np.asarray(affine(convention, boxes, rotation=30.0))
        found = dark_jax.apply_affine(points, push[0])
        assert found.dtype == jnp.float32
        np.testing.assert_allclose(found, exact, rtol=0, atol=1000 * tolerances.EPS32)

    @each_convention
    def test_targets(self, convention: conventions.Convention) -> None:
        """Inputs map to heatmaps as the original implementation draws its training targets."""
        with jax.enable_x64(True):
            push = dark_jax.map_to_input(
                map_size=SIZE, input_size=(256, 192), convention=convention
            )
            inputs = 4 * POINTS
            found = dark_jax.apply_affine(inputs, dark_jax.invert_affine(push))
        expected = convention_homes.TARGETS[convention.name](inputs)
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-12)

    def test_a_centre_and_a_scale_are_a_box(self) -> None:
        """The annotations of MPII, as HRNet reads them, are a centre and a scale."""
        centre, scale = np.array([310.0, 220.5]), 1.4
        side = scale * convention_homes.PIXEL_STD
        box = np.array([*(centre - side / 2), side, side])
        found = dark_jax.box_to_affine(
            box, map_size=(64, 64), convention=conventions.HRNET, padding=1.0
        )
        expected = (POINTS - 32) * (side / 64) + centre
        np.testing.assert_allclose(dark_jax.apply_affine(POINTS, found), expected, atol=1e-3)


LANDS = {
    "DARKPOSE": "40.64",
    "HRNET": "40.00",
    "MMPOSE": "40.00",
    "UDP": "40.64",
    "HALF_PIXEL": "41.50",
    "DEEPLABCUT": "42.00",
    "FAN": "40.00",
    "SLEAP": "40.00",
}
# Pixels of the input are counted from their centres, those of the map and image from their edges.
LANDS_IN_INPUT = LANDS | {"FAN": "39.50"}


class TestTable:
    """Check where x = 10 in a map 48 pixels wide lands in a width of 192."""

    @each_convention
    def test_in_the_input(self, convention: conventions.Convention) -> None:
        push = dark_jax.map_to_input(map_size=SIZE, input_size=(256, 192), convention=convention)
        x = float(np.asarray(dark_jax.apply_affine(np.array([10.0, 20.0]), push))[0])
        assert f"{x:.2f}" == LANDS_IN_INPUT[convention.name]

    @each_convention
    def test_in_the_image(self, convention: conventions.Convention) -> None:
        """The box is the whole image. For UDP its sides are counted between pixel centres."""
        box = [0, 0, 191, 255] if convention == conventions.UDP else [0, 0, 192, 256]
        # The aspect of 191 x 255 is not quite that of the map, so it would be widened by 0.25 px.
        push = affine_of(convention, box, padding=1.0, keep_aspect=convention != conventions.UDP)
        x = float(np.asarray(dark_jax.apply_affine(np.array([10.0, 20.0]), push))[0])
        assert f"{x:.2f}" == LANDS[convention.name]

    def test_udp_of_a_box_of_192(self) -> None:
        """The original implementations map a detector's box of the whole image like this."""
        push = affine_of(conventions.UDP, [0, 0, 192, 256], padding=1.0)
        x = float(np.asarray(dark_jax.apply_affine(np.array([10.0, 20.0]), push))[0])
        assert x == pytest.approx(10 * 192 / 47, abs=1e-4)


class TestBoxes:
    @pytest.mark.parametrize("box", BOXES.tolist(), ids=str)
    def test_widened_never_squeezed(self, box: list[float]) -> None:
        """In the image, the map's outer edges keep its aspect and fit tightly around the box."""
        push = affine_of(conventions.HALF_PIXEL, box, padding=1.0)
        edges = dark_jax.apply_affine(np.array([[-0.5, -0.5], [47.5, 63.5]]), push)
        low, high = np.asarray(edges, float) + 0.5
        sides, middle = high - low, (high + low) / 2
        assert sides[0] / sides[1] == pytest.approx(48 / 64, rel=1e-5)
        np.testing.assert_allclose(middle, np.add(box[:2], np.divide(box[2:], 2)), atol=1e-3)
        slack = sides - box[2:]
        assert slack.max() >= -1e-3
        assert abs(slack.min()) < 1e-3

    def test_stretched_like_a_resize(self) -> None:
        push = affine(conventions.HALF_PIXEL, [0, 0, 480, 320], padding=1.0, keep_aspect=False)
        np.testing.assert_allclose(push, [[10, 0, 4.5], [0, 5, 2.0]], atol=1e-5)

    @each_convention
    def test_padding_and_rotation_keep_the_middle(self, convention: conventions.Convention) -> None:
        """Each box has its own padding and rotation, and its middle stays at one image point."""
        middle = np.array([24.0, 32.0]) - convention.map_middle
        expected = dark_jax.apply_affine(np.broadcast_to(middle, (5, 2)), affine(convention))
        turned = affine(convention, padding=np.linspace(0.7, 2, 5), rotation=np.arange(5) * 40)
        found = dark_jax.apply_affine(np.broadcast_to(middle, (5, 2)), turned)
        np.testing.assert_allclose(found, expected, atol=1e-3)

    def test_a_quarter_turn_by_hand(self) -> None:
        """Boxes turn from x to y, clockwise as seen. Under UDP they turn the other way."""
        box = np.array([0, 0, 64, 64])
        options: Any = {"map_size": (16, 16), "padding": 1.0, "rotation": 90.0}
        push = dark_jax.box_to_affine(box, convention=conventions.MMPOSE, **options)
        np.testing.assert_allclose(push, [[0, -4, 64], [4, 0, 0]], atol=1e-4)
        push = dark_jax.box_to_affine(box, convention=conventions.UDP, **options)
        scale = 64 / 15
        np.testing.assert_allclose(push, [[0, scale, 0], [-scale, 0, 64]], atol=1e-4)

    @pytest.mark.parametrize("shape", [(), (0,), (2, 3)])
    def test_any_leading_axes(self, shape: tuple[int, ...]) -> None:
        boxes = np.broadcast_to(BOXES[0], (*shape, 4))
        found = affine(conventions.UDP, boxes, rotation=20.0)
        assert found.shape == (*shape, 2, 3)
        one = affine(conventions.UDP, BOXES[0], rotation=20.0)
        np.testing.assert_allclose(found, np.broadcast_to(one, found.shape), rtol=3e-6)

    @pytest.mark.parametrize("dtype", ["float16", "bfloat16", "int32", "float64"])
    def test_dtypes(self, dtype: str) -> None:
        """Results are float32. Float64 stays float64, also next to a float32 affine."""

        def both(boxes: Any, points: Any, push: Any) -> tuple[jax.Array, jax.Array]:
            return affine(conventions.MMPOSE, boxes), dark_jax.apply_affine(points, push)

        with jax.enable_x64(True):
            boxes, points, push = (
                jax.ShapeDtypeStruct(shape, kind)
                for shape, kind in (((1, 4), dtype), ((1, 2), dtype), ((2, 3), "float32"))
            )
            expected = jnp.float64 if dtype == "float64" else jnp.float32
            for found in jax.eval_shape(both, boxes, points, push):
                assert found.dtype == expected

    def test_traced_and_degenerate(self) -> None:
        """A box without sides maps to a point. NaN spoils only its own affine."""
        boxes = np.array([[5.0, 6.0, 0.0, 0.0], [np.nan, 0, 1, 1], [*BOXES[0]]], np.float32)
        found = np.asarray(jax.jit(lambda b: affine(conventions.MMPOSE, b))(boxes))
        np.testing.assert_array_equal(found[0], [[0, 0, 5], [0, 0, 6]])
        assert np.isnan(found[1, 0, 2])
        np.testing.assert_allclose(found[2], affine(conventions.MMPOSE, BOXES[0]), rtol=1e-6)
        pulled = np.asarray(jax.jit(dark_jax.invert_affine)(found))
        assert np.isinf(pulled[0]).all()
        assert np.isfinite(pulled[2]).all()


BOX: Any = [0.0, 0.0, 10.0, 10.0]
PUSH = np.ones((2, 3))


class TestErrors:
    @pytest.mark.parametrize("options", [{}, {"convention": None}, {"convention": "udp"}], ids=str)
    @pytest.mark.parametrize(
        "function",
        [
            lambda **o: dark_jax.box_to_affine(BOX, map_size=SIZE, **o),
            lambda **o: dark_jax.map_to_input(map_size=SIZE, input_size=SIZE, **o),
            lambda **o: dark_jax.crop(
                np.ones((4, 4, 1)), PUSH, input_size=SIZE, map_size=SIZE, **o
            ),
        ],
        ids=["box_to_affine", "map_to_input", "crop"],
    )
    def test_no_convention_is_the_default(
        self, function: Callable[..., Any], options: dict[str, Any]
    ) -> None:
        with pytest.raises(TypeError, match="convention must be given") as raised:
            function(**options)
        for convention in conventions.CONVENTIONS:
            assert f"conventions.{convention.name}" in str(raised.value)

    @pytest.mark.parametrize(
        ("options", "error", "match"),
        [
            ({"boxes": [1.0, 2.0, 3.0]}, ValueError, r"boxes must have shape \[\.\.\., 4\]"),
            ({"boxes": [0, 0, 0, 5]}, ValueError, "boxes must be finite .* positive w and h, got"),
            ({"boxes": [[*BOX], [0, 0, 4, -5]]}, ValueError, r"boxes .*, got .* -5\.\]"),
            ({"boxes": [0, np.nan, 4, 5]}, ValueError, "boxes must be finite"),
            ({"boxes": [0, 0, np.inf, 5]}, ValueError, "boxes must be finite"),
            ({"boxes": [1j] * 4}, TypeError, "boxes must hold real numbers"),
            ({"map_size": (64,)}, ValueError, r"map_size must be \(H, W\)"),
            ({"map_size": (64, 1)}, ValueError, r"at least 2 .* conventions\.UDP, got \(64, 1\)"),
            ({"map_size": (64, 4.5)}, TypeError, "map_size must be"),
            ({"padding": 0.0}, ValueError, "padding must be positive"),
            ({"padding": [1.0, 2.0]}, ValueError, r"padding must broadcast to \(\)"),
            ({"rotation": np.nan}, ValueError, "rotation must be finite"),
            ({"rotation": "30"}, TypeError, "rotation must hold real numbers"),
            ({"keep_aspect": 1}, TypeError, "keep_aspect must be True or False"),
            (
                {"keep_aspect": False, "convention": conventions.HRNET},
                ValueError,
                "keep_aspect must be True with conventions.HRNET",
            ),
        ],
        ids=str,
    )
    def test_box_to_affine(
        self, options: dict[str, Any], error: type[Exception], match: str
    ) -> None:
        good = {"boxes": BOX, "map_size": SIZE, "convention": conventions.UDP}
        given = good | options
        with pytest.raises(error, match=match):
            dark_jax.box_to_affine(given.pop("boxes"), **given)

    @pytest.mark.parametrize("map_size", [(48, 64), (64, 50), (64, 46), (16, 16)], ids=str)
    def test_swapped_sizes(self, map_size: tuple[int, int]) -> None:
        """Giving (W, H) for (H, W) would silently stretch everything."""
        sizes: Any = {"map_size": map_size, "input_size": (256, 192)}
        sizes["convention"] = conventions.MMPOSE
        match = rf"got input_size=\(256, 192\), map_size=\({map_size[0]}, {map_size[1]}\): is one"
        with pytest.raises(ValueError, match=match):
            dark_jax.map_to_input(**sizes)
        with pytest.raises(ValueError, match=match):
            dark_jax.crop(np.ones((4, 4, 1)), PUSH, **sizes)

    @pytest.mark.parametrize(
        ("map_size", "input_size"),
        [((63, 48), (250, 190)), ((62, 47), (250, 190)), ((1, 1), (4, 3)), ((2, 2), (5, 4))],
        ids=str,
    )
    def test_sizes_may_be_rounded(
        self, map_size: tuple[int, int], input_size: tuple[int, int]
    ) -> None:
        """Maps may be rounded up or down where a stride does not divide the input."""
        push = dark_jax.map_to_input(
            map_size=map_size, input_size=input_size, convention=conventions.HALF_PIXEL
        )
        scale = np.divide(input_size, map_size)[::-1]
        np.testing.assert_allclose(push[:, :2], np.diag(scale), rtol=1e-6)
