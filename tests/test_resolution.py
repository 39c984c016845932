"""The frames, labels and evaluation of the experiment on real images are correct."""

from collections.abc import Iterator
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from PIL import Image

import dark_jax
from tests.benchmarks.resolution import frames, views
from tests.benchmarks.resolution.decoders import decoders, evaluate
from tests.benchmarks.resolution.experiment import Outcome, folds, rows, score
from tests.benchmarks.resolution.network import UNet, random_key, train
from tests.benchmarks.resolution.views import SETTINGS, Setting
from tests.support import synthetic

SMALL = SETTINGS[0]


@pytest.fixture(autouse=True)
def flax_promotes() -> Iterator[None]:
    """Flax and Optax add numbers of different types and ranks. Only our code is strict."""
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        yield


@pytest.fixture(scope="module")
def few() -> frames.Frames:
    return frames.made(6)


def tiny() -> UNet:
    """A network with only two levels, which compiles in a fraction of the time."""
    return UNet(3, 5, rngs=nnx.Rngs(random_key(0)), widths=(8, 16))


@pytest.mark.slow
@pytest.mark.parametrize("setting", SETTINGS, ids=str)
def test_labels_come_back(few: frames.Frames, setting: Setting) -> None:
    """Points of a frame, drawn as exact targets, decoded and mapped back, return to 0.001 px."""
    seen = views.prepare(few, setting)
    _, affine = views.look(seen, setting=setting)
    maps = views.targets(seen.points, affine, setting=setting)
    assert maps.shape == (6, *setting.map_size, 5)
    found = dark_jax.to_image(decoders(setting)["fit"](maps), affine)
    np.testing.assert_allclose(found.coords, few.points, rtol=0, atol=1e-3)


def blob(size: tuple[int, int], at: np.ndarray, sigma: float) -> np.ndarray:
    return synthetic.draw(at[None], size, sigma=sigma)[0, ..., None].astype(np.float32)


def test_made_frames_show_the_landmark_where_the_truth_is() -> None:
    """A blob on the first landmark of the photograph is on the first point of each frame."""
    photo = 255 * blob((256, 256), frames.landmarks()[0], 3.0)
    found = frames.made(6, photo=np.repeat(photo, 3, axis=-1))
    y, x = np.mgrid[: frames.SIDE, : frames.SIDE]
    errors = []
    for picture, truth in zip(found.images[..., 0], found.points[:, 0], strict=True):
        weight = np.where(
            np.hypot(x - truth[0], y - truth[1]) < 20, np.maximum(picture - 0.6, 0), 0
        )
        if picture[tuple(np.rint(truth[::-1]).astype(int))] > 0.7:  # else the disc covers it
            centre = np.array([(weight * x).sum(), (weight * y).sum()]) / weight.sum()
            errors.append(np.linalg.norm(centre - truth))
    assert len(errors) >= 3
    assert max(errors) < 0.3


@pytest.mark.slow
def test_examples_draw_targets_where_the_input_shows_the_point() -> None:
    """A blob and its target are turned, mirrored, scaled and shifted alike."""
    setting = Setting(64, 1.5)
    points = synthetic.centres(0, 4, (256, 256), margin=110.0)[:, None].astype(np.float32)
    pictures = np.stack([blob((256, 256), at[0], 12.0) for at in points])
    shown = frames.Frames(pictures, points, ("snout",), 180.0, "blobs")
    seen = views.prepare(shown, setting)
    draw = jax.jit(views.examples, static_argnames=("setting", "count"))
    inputs, targets = draw(random_key(0), seen, setting=setting, count=16)
    inputs = inputs - jnp.min(inputs, axis=(1, 2), keepdims=True)
    in_input = dark_jax.decode(inputs, kernel_size=3, axes=views.AXES).coords
    in_map = decoders(setting)["fit"](targets).coords
    np.testing.assert_allclose((in_input + 0.5) / views.STRIDE - 0.5, in_map, rtol=0, atol=0.02)


def test_a_mirror_mirrors(few: frames.Frames) -> None:
    seen = views.prepare(few, SMALL)
    inputs, affine = views.look(seen, setting=SMALL)
    turned = jax.jit(views.mirrored, static_argnums=1)(affine, SMALL.map_size)
    found = dark_jax.crop(
        seen.images,
        turned,
        input_size=SMALL.input_size,
        map_size=SMALL.map_size,
        convention=views.CONVENTION,
    )
    np.testing.assert_allclose(found, np.asarray(inputs)[:, :, ::-1], atol=1e-4)
    assert few.pairs == ((2, 1), (4, 3))
    np.testing.assert_array_equal(seen.swap, [0, 2, 1, 4, 3])


@pytest.mark.slow
def test_training_lowers_the_loss(few: frames.Frames) -> None:
    network = tiny()
    losses = train(network, views.prepare(few, SMALL), SMALL, steps=20, seed=0)
    assert losses.shape == (20,)
    assert losses[-5:].mean() < 0.5 * losses[:5].mean()


@pytest.mark.slow
def test_evaluation_is_one_program(few: frames.Frames) -> None:
    """The evaluation lowers as a whole, and equals its parts run one after the other."""
    seen = views.prepare(few, SMALL)
    inputs, affine = views.look(seen, setting=SMALL)
    network = tiny()
    decoder = decoders(SMALL)["DARK, k = 11"]
    text = evaluate.lower(network, inputs, affine, ways=(decoder,)).as_text()
    assert text.count("func.func public") == 1
    assert "stablehlo.convolution" in text
    (whole,) = evaluate(network, inputs, affine, ways=(decoder,))
    steps = dark_jax.to_image(decoder(network(inputs)), affine)
    np.testing.assert_allclose(whole.coords, steps.coords, atol=0.05)


def test_folds_share_the_frames() -> None:
    parts = folds(11)
    assert [len(part) for part in parts] == [6, 5]
    np.testing.assert_array_equal(np.sort(np.concatenate(parts)), np.arange(11))


def test_scores_by_hand() -> None:
    """Argmax errs by 1 and 3 px in two frames, other decoders by half. One point is lost."""
    truth = np.zeros((2, 2, 2))
    coords = np.array([[[1.0, 0], [0, 1]], [[3, 0], [0, 3]]])
    localised = np.array([[True, True], [True, False]])
    names = list(decoders(SMALL))
    outcome = Outcome(
        setting=SMALL,
        fold=0,
        chosen=np.arange(2),
        network=nnx.eval_shape(tiny),  # the scores do not need its weights
        losses=np.zeros(1),
        seconds=0.0,
        coords={name: coords if name == "argmax" else coords / 2 for name in names},
        truth=truth,
        localised=localised,
    )
    argmax, fit = score([outcome], "argmax"), score([outcome], "fit")
    assert argmax == pytest.approx((2.0, 1.0, 0.0, 0.0, 1.0, 5 / 3))
    assert fit == pytest.approx((1.0, 0.5, 1.0, 0.5, 1.0, 5 / 6))
    table = rows([outcome])
    assert [row["decoder"] for row in table] == names
    assert table[-1]["less than argmax"] == "1.00 ± 0.50"


class TestRead:
    HEADER = "file,crop_x,crop_y,nose_x,nose_y,leftear_x,leftear_y,rightear_x,rightear_y\n"

    def folder(self, path: Path, lines: str) -> Path:
        (path / "crops").mkdir()
        for n, side in enumerate((20, 20, 24)):
            Image.new("L", (side, 16), 51 * n).save(path / "crops" / f"{n}.png")
        (path / "labels.csv").write_text(self.HEADER + lines)
        return path

    def test_points_and_pictures(self, tmp_path: Path) -> None:
        lines = "0.png,7,8,1.5,2,3,4,5,6\n1.png,7,8,1,2,,,5,6\n"
        found = frames.read(self.folder(tmp_path, lines))
        assert found.joints == ("nose", "leftear", "rightear")
        assert found.pairs == ((1, 2),)
        assert found.images.shape == (2, 16, 20, 1)
        np.testing.assert_allclose(found.images[1], 0.2)
        np.testing.assert_array_equal(
            found.points, [[[1.5, 2], [3, 4], [5, 6]], [[1, 2], [np.nan] * 2, [5, 6]]]
        )
        assert found.boxes[1] == pytest.approx((3 - 127.5, 4 - 127.5, 256, 256))

    @pytest.mark.parametrize(
        ("lines", "match"),
        [("", "must have rows"), ("0.png,,,1,1,1,1,1,1\n2.png,,,1,1,1,1,1,1\n", "of one size")],
    )
    def test_errors(self, tmp_path: Path, lines: str, match: str) -> None:
        with pytest.raises(ValueError, match=match):
            frames.read(self.folder(tmp_path, lines))
