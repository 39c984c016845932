"""Pictures of keypoints: what is drawn where, and what cannot be drawn."""

import dataclasses
import io
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

import dark_jax
from dark_jax import Keypoints, plot
from tests.support import synthetic

pictures = pytest.importorskip("matplotlib.image")

CYAN = (0.0, 229 / 255, 1.0)


@pytest.fixture(scope="module")
def maps() -> np.ndarray:
    points = np.array([[5.2, 7.9], [15.5, 3.0], [9.0, 15.5]])
    return synthetic.draw(points, (24, 20), sigma=1.5)[None].astype(np.float32)


@pytest.fixture(scope="module")
def keypoints(maps: np.ndarray) -> Keypoints:
    return jax.device_get(dark_jax.decode(maps))


def png_of(figure: Any) -> bytes:
    figure.savefig(stream := io.BytesIO(), format="png")
    return stream.getvalue()


def shares_of_cyan(png: bytes) -> np.ndarray:
    """The mean of the pixels of refined points, as shares of the picture's width and height."""
    drawn = pictures.imread(io.BytesIO(png))
    y, x = np.nonzero(np.abs(drawn[..., :3] - CYAN).max(axis=-1) < 0.02)
    return np.array([x.mean() / drawn.shape[1], y.mean() / drawn.shape[0]])


def test_a_point_is_drawn_where_it_is(maps: np.ndarray, keypoints: Keypoints) -> None:
    """Points lie left and right, with and without an image axis, on the maps and on a photo."""
    photo = np.zeros((96, 80, 3), np.uint8)
    for joint, to_the_left in ((0, True), (1, False)):
        its = maps[:, joint : joint + 1]
        found = keypoints[:, joint : joint + 1]
        one = png_of(plot.overlay(found[0], heatmaps=its[0]))
        assert png_of(plot.overlay(found, heatmaps=its)) == one
        on_photo = png_of(plot.overlay(found, heatmaps=its, photo=photo, stride=4.0))
        np.testing.assert_allclose(shares_of_cyan(on_photo), shares_of_cyan(one), atol=0.01)
        assert (shares_of_cyan(one)[0] < 0.5) == to_the_left


def test_the_square_is_at_the_maximum_below_zero_too(
    maps: np.ndarray, keypoints: Keypoints
) -> None:
    """The reference would put the peak of a map that is below zero everywhere at (0, 0).

    A fit of a known background refines such a map, and its score is below zero.
    """
    assert (keypoints.status == dark_jax.Status.REFINED).all()
    found = dataclasses.replace(keypoints, scores=keypoints.scores - 2)
    below = png_of(plot.overlay(found, heatmaps=maps - 2))
    np.testing.assert_allclose(
        pictures.imread(io.BytesIO(below)),
        pictures.imread(io.BytesIO(png_of(plot.overlay(keypoints, heatmaps=maps)))),
        atol=0.1,
    )


def test_what_cannot_be_drawn_is_named(maps: np.ndarray, keypoints: Keypoints) -> None:
    with pytest.raises(
        ValueError, match=r"heatmaps must be .* keypoints, \(1, 3\).* \(1, 24, 20\)"
    ):
        plot.overlay(keypoints, heatmaps=maps[:, 0])
    photo = np.zeros((96, 80, 3), np.uint8)
    twice, both = jax.tree.map(lambda leaf: np.concatenate([leaf, leaf]), (maps, keypoints))
    with pytest.raises(ValueError, match=r"photo must be \[H, W, 3\].* for 2 images"):
        plot.overlay(both, heatmaps=twice, photo=photo)
    with pytest.raises(ValueError, match=r"photo must be .* got shape \(96, 80\)"):
        plot.overlay(keypoints, heatmaps=maps, photo=photo[..., 0])


def test_photos_are_upright(tmp_path: Path) -> None:
    """A photo that says it was taken on its side is turned, as cameras intend it."""
    from PIL import Image

    pixels = np.zeros((20, 40, 3), np.uint8)
    pixels[:, :20] = 255
    turned = Image.Exif()
    turned[0x0112] = 6  # the left of the file is the top of the picture
    Image.fromarray(pixels).save(tmp_path / "photo.png", exif=turned)
    found = plot.read_photo(str(tmp_path / "photo.png"))
    assert found.shape == (40, 20, 3)
    assert (found[:20] == 255).all()
    assert (found[20:] == 0).all()


@pytest.mark.parametrize("dtype", [np.uint16, np.int32, np.float32])
def test_deep_photos_are_refused(tmp_path: Path, dtype: type) -> None:
    """RGB would cut their values off at 255."""
    from PIL import Image

    Image.fromarray(np.full((20, 40), 300, dtype)).save(tmp_path / "deep.tiff")
    with pytest.raises(ValueError, match=r"deep\.tiff: is a grey picture of more than 8 bits"):
        plot.read_photo(tmp_path / "deep.tiff")
    with pytest.raises(TypeError, match="path must be a path, got 3"):
        plot.read_photo(3)  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize("stride", [0, -1.0, np.nan, np.inf])
def test_strides_are_positive(maps: np.ndarray, keypoints: Keypoints, stride: float) -> None:
    with pytest.raises(ValueError, match="stride must be a positive, finite number, got"):
        plot.overlay(keypoints, heatmaps=maps, stride=stride)


def test_axes_of_ones_own(maps: np.ndarray, keypoints: Keypoints) -> None:
    """One subplot is drawn on. The rest of the figure does not change."""
    from matplotlib.figure import Figure

    figure = Figure()
    left, right = figure.subplots(1, 2)
    assert plot.overlay(keypoints, heatmaps=maps, ax=right) is figure
    assert plot.overlay(keypoints[0], heatmaps=maps[0], ax=right) is figure
    assert not left.lines
    assert len(right.images) == 2
    assert right.get_xlim() == (-0.5, maps.shape[-1] - 0.5)
    refined = right.lines[1]
    np.testing.assert_allclose(refined.get_xydata(), keypoints.coords[0], atol=1e-6)
    assert not figure.legends
    assert figure.get_suptitle() == ""
    twice = np.concatenate([maps, maps])
    both = jax.tree.map(lambda leaf: np.concatenate([leaf, leaf]), keypoints)
    with pytest.raises(ValueError, match="ax must be for one image, got 2"):
        plot.overlay(both, heatmaps=twice, ax=right)
    with pytest.raises(TypeError, match=r"ax must be Matplotlib's axes, .* got array"):
        plot.overlay(keypoints, heatmaps=maps, ax=np.array([left, right]))  # pyright: ignore[reportArgumentType]


def test_no_figure_of_pyplot_s_is_left(maps: np.ndarray, keypoints: Keypoints) -> None:
    """Otherwise pyplot would keep all figures of a loop over a data set."""
    from matplotlib import pyplot

    plot.overlay(keypoints, heatmaps=maps)
    assert pyplot.get_fignums() == []
