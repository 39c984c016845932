"""The crop that a network sees, and points mapped through it and back."""

from typing import Any

import jax
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

import dark_jax
from dark_jax import Keypoints, conventions, samples
from tests.contracts.decoders import COLLECTIVE
from tests.support import convention_homes, synthetic, tolerances
from tests.support.batches import in_batches
from tests.support.convention_cases import SIZE, affine, each_convention

INPUT = (256, 192)  # H, W
PEOPLE = np.array([[60.5, 40.25, 110.0, 90.0], [20.0, 30.0, 130.0, 190.0]])


def crop(images: Any, push: Any, convention: conventions.Convention, **options: Any) -> jax.Array:
    given: dict[str, Any] = {"input_size": INPUT, "map_size": SIZE} | options
    return dark_jax.crop(images, push, convention=convention, **given)


def ramps(height: int, width: int) -> np.ndarray:
    """``[H, W, 2]``: each pixel holds its own coordinate, so a crop shows where it was read."""
    y, x = np.mgrid[:height, :width]
    return np.stack([x, y], axis=-1).astype(np.float64)


@pytest.mark.parametrize(
    ("convention", "degrees"),
    [(c, 0.0) for c in conventions.CONVENTIONS]
    + [(c, 30.0) for c in conventions.CONVENTIONS if c.name in convention_homes.TURNING],
    ids=str,
)
def test_reads_where_the_home_reads(convention: conventions.Convention, degrees: float) -> None:
    """Each input pixel is read where the original reads it, given the affine of the map."""
    with jax.enable_x64(True):
        # The shift keeps every pixel that a turned box can reach inside the image.
        box, shifted = PEOPLE[0], PEOPLE[0] + [200, 200, 0, 0]
        found = crop(ramps(500, 500), affine(convention, shifted, rotation=degrees), convention)
    pixels = ramps(*INPUT).reshape(-1, 2)
    home = convention_homes.INPUTS[convention.name](box, (192, 256), 1.25, degrees)
    expected = home(pixels).reshape(*INPUT, 2) + 200
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-9)


IDENTITY = np.array([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])


class TestSampling:
    """Crops are as large as the map, so only the affine decides where they are read."""

    @staticmethod
    def read(images: Any, push: Any, size: tuple[int, int], **options: Any) -> np.ndarray:
        sizes = {"input_size": size, "map_size": size}
        return np.asarray(
            dark_jax.crop(images, push, convention=conventions.MMPOSE, **sizes, **options)
        )

    def test_identity_is_exact(self) -> None:
        photo = samples.load().image
        found = self.read(photo, IDENTITY, photo.shape[:2])
        assert found.dtype == np.float32
        np.testing.assert_array_equal(found, photo)

    def test_outside_by_hand(self) -> None:
        """Half a pixel beyond the edge, half of the value is fill. Further out, all of it is."""
        row = np.array([[[1.0], [3.0]]])
        push = IDENTITY + np.array([[0, 0, -1.5], [0, 0, 0]])
        found = self.read(row, push, (1, 5), fill=10.0)
        np.testing.assert_allclose(found[0, :, 0], [10.0, 5.5, 2.0, 6.5, 10.0])

    def test_fill_by_channel(self) -> None:
        found = self.read(np.zeros((2, 2, 3)), IDENTITY * 100, (3, 3), fill=[1.0, 2.0, 3.0])
        np.testing.assert_array_equal(found[2, 2], [1.0, 2.0, 3.0])
        np.testing.assert_array_equal(found[0, 0], 0)

    def test_bilinear(self) -> None:
        generator = synthetic.rng(1)
        picture = generator.standard_normal((9, 11, 2))
        push = np.array([[0.31, -0.17, 3.2], [0.12, 0.29, 1.1]])
        found = self.read(picture, push, (12, 10))
        for i, j in np.ndindex(12, 10):
            x, y = push[:, :2] @ [j, i] + push[:, 2]
            left, top = int(np.floor(x)), int(np.floor(y))
            value = np.zeros(2)
            for row, column in ((top, left), (top, left + 1), (top + 1, left), (top + 1, left + 1)):
                if 0 <= row < 9 and 0 <= column < 11:
                    value += (1 - abs(y - row)) * (1 - abs(x - column)) * picture[row, column]
            np.testing.assert_allclose(found[i, j], value, atol=5e-6)

    @pytest.mark.parametrize(
        ("images", "boxes"), [((), ()), ((), (3,)), ((2,), (2, 3)), ((2, 1), (2, 1))]
    )
    def test_leading_axes(self, images: tuple[int, ...], boxes: tuple[int, ...]) -> None:
        """Further axes of the affine are boxes of the same image."""
        pictures = synthetic.rng(2).random((*images, 6, 7, 2)).astype(np.float32)
        pushes = (IDENTITY + 0.2 * synthetic.rng(3).random((*boxes, 2, 3))).astype(np.float32)
        found = self.read(pictures, pushes, (5, 4))
        assert found.shape == (*boxes, 5, 4, 2)
        for index in np.ndindex(*boxes):
            one = self.read(pictures[index[: len(images)]], pushes[index], (5, 4))
            np.testing.assert_allclose(found[index], one, atol=1e-6)


def with_blob(photo: np.ndarray, at: np.ndarray, sigma: float) -> np.ndarray:
    """The photo plus a Gaussian that is a thousand times as bright."""
    y, x = np.mgrid[: photo.shape[0], : photo.shape[1]]
    blob = np.exp(-((x - at[0]) ** 2 + (y - at[1]) ** 2) / (2 * sigma**2))
    return photo / 255 + 1000 * blob[..., None]


def found_in(seen: np.ndarray) -> np.ndarray:
    """``(x, y)`` of a Gaussian, from a parabola fitted to the logarithms of its upper half."""
    y, x = np.nonzero(seen > 0.5 * seen.max())
    terms = np.stack([np.ones(len(x)), x, y, x**2, y**2], axis=-1)
    (_, bx, by, ax, ay), *_ = np.linalg.lstsq(terms, np.log(seen[y, x]), rcond=None)
    return -np.array([bx / ax, by / ay]) / 2


def decoded(targets: np.ndarray) -> Keypoints:
    """Decode maps with one joint and one Gaussian each, four at a time, with one program."""
    maps = synthetic.draw(targets, SIZE, sigma=2.0)[:, None].astype(np.float32)
    return in_batches(dark_jax.decode, maps, size=4)


@pytest.mark.parametrize("degrees", [0.0, 33.0])
@each_convention
def test_a_blob_comes_back(convention: conventions.Convention, degrees: float) -> None:
    """A blob in a photo is cropped, drawn, decoded and mapped back to within 0.02 image pixels.

    The simulated network is exact: it finds the blob in its input and draws it where the targets
    of the original implementation have it. Two boxes differ in scale and point.
    """
    truth = np.array([[118.37, 86.61], [92.75, 130.22]])
    photos = np.stack([with_blob(samples.load().image, at, sigma=6.0) for at in truth])
    push = affine(convention, PEOPLE, rotation=degrees, padding=np.array([1.25, 1.1]))
    seen = np.asarray(crop(photos, push, convention), np.float64).mean(axis=-1)

    targets = convention_homes.TARGETS[convention.name](np.stack([found_in(one) for one in seen]))
    back = dark_jax.to_image(decoded(targets), push)
    error = np.linalg.norm(np.asarray(back.coords)[:, 0] - truth, axis=-1)
    assert error.max() < tolerances.CROP


def there_and_back(photos: Any, boxes: Any, found: Any) -> Any:
    push = affine(conventions.UDP, boxes)
    return crop(photos, push, conventions.UDP), dark_jax.to_image(found, push)


class TestTransforms:
    def test_eager_jit_vmap(self) -> None:
        photos = np.stack([samples.load().image] * 2)
        push = affine(conventions.UDP, PEOPLE, rotation=20.0)

        def function(photos: Any, push: Any) -> jax.Array:
            return crop(photos, push, conventions.UDP)

        expected = function(photos, push)
        # Places differ in their last bits. Their fractions weigh neighbours from 0 to 255.
        for other in (jax.jit(function), jax.vmap(function)):
            np.testing.assert_allclose(other(photos, push), expected, atol=0.05)

    def test_gradients(self) -> None:
        """Gradients with respect to image, affine and fill match central differences."""
        with jax.enable_x64(True):
            generator = synthetic.rng(8)
            y, x = np.mgrid[:20, :20]
            smooth = np.stack([np.sin(x / 5) * y, np.cos(y / 4) + x], axis=-1)
            # No pixel of the crop falls on a pixel of the image, where the slope jumps.
            push = np.array([[0.61, 0.17, 2.3], [-0.13, 0.57, 4.1]])
            arguments = [smooth, push, np.array([0.5, 2.0])]
            sizes = {"input_size": (9, 30), "map_size": (9, 30)}
            weights = generator.standard_normal((9, 30, 2))

            def loss(picture: jax.Array, push: jax.Array, fill: jax.Array) -> jax.Array:
                cut = crop(picture, push, conventions.MMPOSE, fill=fill, **sizes)
                return (cut * weights).sum()

            with_gradients = jax.jit(jax.value_and_grad(loss, argnums=(0, 1, 2)))
            _, gradients = with_gradients(*arguments)
            for n, gradient in enumerate(map(np.asarray, gradients)):
                direction = generator.standard_normal(gradient.shape)
                ahead, behind = list(arguments), list(arguments)
                ahead[n] = arguments[n] + 1e-7 * direction
                behind[n] = arguments[n] - 1e-7 * direction
                slope = (float(with_gradients(*ahead)[0]) - with_gradients(*behind)[0]) / 2e-7
                found = (gradient * direction).sum()
                np.testing.assert_allclose(found, slope, rtol=tolerances.GRADIENT, atol=1e-5)

    @pytest.mark.parametrize("kind", [AxisType.Auto, AxisType.Explicit], ids=["auto", "explicit"])
    def test_sharded_images_stay_where_they_are(self, kind: AxisType) -> None:
        """Cropping boxes and mapping keypoints back need no collective and give the same values."""
        mesh = jax.make_mesh((4,), ("b",), axis_types=(kind,))
        boxes = np.tile(PEOPLE, (2, 1)).astype(np.float32)
        photos = synthetic.rng(9).random((4, 32, 30, 1)).astype(np.float32)
        found = decoded(boxes[:, :2] / 3)
        expected = jax.jit(there_and_back)(photos, boxes, found)
        sharded = jax.device_put((photos, boxes, found), NamedSharding(mesh, P("b")))
        with jax.set_mesh(mesh):
            compiled = jax.jit(there_and_back).lower(*sharded).compile()
        text = compiled.as_text()
        assert text is not None
        assert not COLLECTIVE.findall(text)
        for a, b in zip(
            jax.tree.leaves(compiled(*sharded)), jax.tree.leaves(expected), strict=True
        ):
            assert not a.sharding.is_fully_replicated
            np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize(
    ("options", "error", "match"),
    [
        ({"images": np.ones((4, 4))}, ValueError, r"images must be \[\.\.\., H, W, C\]"),
        ({"images": np.ones((4, 0, 3))}, ValueError, "images must be .* not empty"),
        ({"images": np.ones((4, 4, 1), complex)}, TypeError, "images must hold real numbers"),
        ({"affine": np.ones((3, 2))}, ValueError, r"affine must have shape \[\.\.\., 2, 3\]"),
        ({"images": np.ones((2, 4, 4, 1))}, ValueError, r"those of images, \(2,\), got \(\)"),
        ({"input_size": (4,)}, ValueError, r"input_size must be \(H, W\)"),
        ({"map_size": (1, 4)}, ValueError, "map_size must be at least 2"),
        ({"fill": [1.0, 2.0]}, ValueError, r"fill must broadcast to \(1,\)"),
    ],
    ids=str,
)
def test_errors(options: dict[str, Any], error: type[Exception], match: str) -> None:
    given: dict[str, Any] = {"images": np.ones((4, 4, 1)), "affine": IDENTITY, "input_size": (4, 4)}
    given |= {"map_size": (4, 4), "convention": conventions.UDP} | options
    with pytest.raises(error, match=match):
        dark_jax.crop(given.pop("images"), given.pop("affine"), **given)


@pytest.mark.parametrize("fill", [1e8, -1e30, np.inf, np.nan])
def test_what_lies_outside_is_not_seen_inside(fill: float) -> None:
    """The fill is so large that it would swallow the digits of pixels, or it is not finite."""
    photo = np.ones((20, 20, 1), np.float32)
    for corner, outside in ((2.5, 0), (15.25, 4)):
        inside = np.array([[1.0, 0.0, corner], [0.0, 1.0, corner]])
        sizes: Any = {"input_size": (8, 8), "map_size": (8, 8)}
        found = dark_jax.crop(photo, inside, **sizes, convention=conventions.MMPOSE, fill=fill)
        seen = 8 - outside
        np.testing.assert_array_equal(found[:seen, :seen], 1)
        if outside:
            np.testing.assert_array_equal(found[seen + 1 :], np.float32(fill))
