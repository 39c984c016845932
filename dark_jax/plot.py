"""Pictures of keypoints on photographs and heatmaps. They need the extra ``plot``."""

from __future__ import annotations

import math
import os
from typing import TYPE_CHECKING, Any

import numpy as np

from dark_jax._codecs.integer_peaks import integer_peaks
from dark_jax._core import checks, optional
from dark_jax._core.keypoints import Keypoints, Status

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["overlay", "read_photo"]

# In a grid of more pictures than this, nothing can be recognised.
_MOST_IMAGES = 16

_REFINED, _PEAK, _KEPT = "#00e5ff", "#ffffff", "#ff9f1c"


def read_photo(path: str | os.PathLike[str]) -> np.ndarray:
    """Read a photograph from a file, upright, for :func:`overlay`.

    Args:
        path: a PNG, a JPEG or any other file that Pillow reads.

    Returns:
        ``[H, W, 3]`` uint8, red, green and blue.

    Raises:
        OSError: the file cannot be opened.
        TypeError: ``path`` is not a path.
        ValueError: the file is not a picture that Pillow can read, or a grey picture of more than
            8 bits.
        ImportError: Pillow is not installed.

    Example:
        >>> import pathlib, tempfile
        >>> from PIL import Image
        >>> from dark_jax import plot
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = pathlib.Path(folder) / "red.png"
        ...     Image.new("RGB", (192, 256), "red").save(path)
        ...     photo = plot.read_photo(path)
        >>> photo.shape, photo[0, 0].tolist()
        ((256, 192, 3), [255, 0, 0])

    References:
        Pillow's ``Image.open``.
    """
    image: Any = optional.load("PIL.Image", extra="plot")
    operations: Any = optional.load("PIL.ImageOps", extra="plot")
    path = checks.path("path", path)
    with path.open("rb") as stream:
        try:
            with image.open(stream) as picture:
                deep = picture.mode[0] in "IF"  # integers or floats, which RGB would clip
                pixels = None if deep else operations.exif_transpose(picture).convert("RGB")
        except Exception as error:  # every format fails in its own way
            raise ValueError(f"{path}: not a readable picture ({error})") from error
    if pixels is None:
        raise ValueError(f"{path}: is a grey picture of more than 8 bits: save it with 8")
    return np.asarray(pixels)


def overlay(
    keypoints: Keypoints,
    *,
    heatmaps: np.ndarray,
    photo: np.ndarray | None = None,
    stride: float = 1.0,
    ax: Axes | None = None,
) -> Figure:
    """Draw refined points with their integer peaks as squares, and other points as crosses.

    Args:
        keypoints: the keypoints of ``heatmaps``; scores ``[B, J]`` or ``[J]`` float, coordinates
            in heatmap pixels.
        heatmaps: ``[B, J, H, W]`` or ``[J, H, W]`` real numbers. Without a photo, their maximum
            over the joints is drawn, for at most the first 16 images.
        photo: ``[H stride, W stride, 3]`` uint8, drawn behind the points of a single image.
            Heatmap pixel i covers the photo pixels ``stride i`` to ``stride i + stride - 1``.
        stride: photo pixels for each heatmap pixel.
        ax: the Matplotlib axes to draw one image on. The default makes a new figure.

    Returns:
        The Matplotlib ``Figure``. Write it with ``figure.savefig("overlay.png")``.

    Raises:
        ImportError: Matplotlib is not installed.
        TypeError: ``keypoints`` are not :class:`dark_jax.Keypoints`; ``heatmaps`` do not hold
            real numbers; ``stride`` is not a number; ``ax`` is not Matplotlib axes.
        ValueError: ``heatmaps`` are not one for each keypoint; ``photo`` or ``ax`` is given for
            more than one image; ``photo`` is not a picture; ``stride`` is not positive and
            finite.

    Example:
        >>> import dark_jax
        >>> from dark_jax import plot, samples
        >>> sample = samples.load()
        >>> figure = plot.overlay(
        ...     dark_jax.decode(sample.heatmaps),
        ...     heatmaps=sample.heatmaps,
        ...     photo=sample.image,
        ...     stride=sample.stride,
        ... )
        >>> [text.get_text() for text in figure.legends[0].get_texts()]
        ['argmax', 'DARK', 'not refined (see status)']

    References:
        Matplotlib's ``imshow``, which also has pixel centres at integers.
    """
    checks.keypoints("keypoints", keypoints)
    stride = checks.positive("stride", stride)
    coords, status = np.asarray(keypoints.coords), np.asarray(keypoints.status)
    maps = np.asarray(checks.real_array("heatmaps", heatmaps))
    if maps.ndim not in (3, 4) or maps.shape[:-2] != status.shape:
        raise ValueError(
            "heatmaps must be [J, H, W] or [B, J, H, W] with the leading axes of keypoints, "
            f"{status.shape}, got shape {maps.shape}"
        )
    if maps.ndim == 3:
        coords, status, maps = coords[None], status[None], maps[None]
    if photo is not None and (len(maps) > 1 or np.ndim(photo) != 3):
        raise ValueError(
            f"photo must be [H, W, 3] and for a single image, got shape {np.shape(photo)} "
            f"for {len(maps)} images"
        )
    if ax is not None and len(maps) != 1:
        raise ValueError(f"ax must be for one image, got {len(maps)}: leave it out, or index them")
    peaks = np.asarray(integer_peaks(maps, axes=(2, 3))[0])
    shown = min(len(maps), _MOST_IMAGES)
    if ax is None:
        figure, drawn = _new_figure(shown, maps.shape[-2:])
    else:
        figure, drawn = _figure_of(ax), [ax]
    for image, axes in enumerate(drawn):
        _draw_backdrop(axes, maps[image], photo, stride)
        _draw_points(axes, peaks[image], coords[image], status[image], stride)
        if len(maps) > 1:
            axes.set_title(f"image {image}", fontsize=9)
    if ax is not None:
        return figure
    title = "argmax: one square pixel of the heatmap; DARK: a point"
    if shown < len(maps):
        title += f" (first {shown} of {len(maps)} images)"
    figure.suptitle(title, fontsize=11)
    if drawn:
        handles, labels = drawn[0].get_legend_handles_labels()
        place = {"loc": "outside lower center", "ncols": 3}
        figure.legend(handles, labels, frameon=False, fontsize=9, **place)
    return figure


def _figure_of(ax: Any) -> Figure:
    """Return the figure of the axes that the user gives."""
    if not isinstance(ax, optional.load("matplotlib.axes", extra="plot").Axes):
        raise TypeError(f"ax must be Matplotlib's axes, as plt.subplots() gives, got {ax!r:.200}")
    return ax.get_figure(root=True)


def _new_figure(images: int, size: tuple[int, int]) -> tuple[Figure, list[Axes]]:
    """Return a figure that pyplot does not manage, and its axes, a grid with one per image."""
    figure_class = optional.load("matplotlib.figure", extra="plot").Figure
    columns = math.ceil(math.sqrt(max(images, 1)))
    rows = math.ceil(max(images, 1) / columns)
    height, width = size
    scale = 8.0 / max(columns * width, rows * height)
    figure = figure_class(
        figsize=(max(columns * width * scale, 4.0), rows * height * scale + 0.9),
        dpi=90,
        layout="constrained",
    )
    return figure, [figure.add_subplot(rows, columns, image + 1) for image in range(images)]


def _draw_backdrop(axes: Axes, maps: np.ndarray, photo: np.ndarray | None, stride: float) -> None:
    height, width = maps.shape[-2:]
    if photo is None:
        highest = np.asarray(maps if len(maps) else np.zeros((1, height, width)), np.float32).max(0)
        axes.imshow(highest, cmap="magma", interpolation="nearest")
    else:
        axes.imshow(photo, interpolation="lanczos")
    axes.set_xlim(-0.5, width * stride - 0.5)
    axes.set_ylim(height * stride - 0.5, -0.5)
    axes.set_axis_off()


def _draw_points(
    axes: Axes, peaks: np.ndarray, coords: np.ndarray, status: np.ndarray, stride: float
) -> None:
    patches: Any = optional.load("matplotlib.patches", extra="plot")
    effects: Any = optional.load("matplotlib.patheffects", extra="plot")
    outline = [effects.withStroke(linewidth=2.5, foreground="black")]
    refined = status == Status.REFINED

    def on_photo(points: np.ndarray) -> np.ndarray:
        return (np.asarray(points, np.float64) + 0.5) * stride - 0.5

    for corner in on_photo(peaks[refined]) - stride / 2:
        axes.add_patch(
            patches.Rectangle(
                corner, stride, stride, fill=False, color=_PEAK, linewidth=1.0, path_effects=outline
            )
        )
    # Only for the legend, because patches have no marker.
    axes.plot([], [], "s", mfc="none", mec=_PEAK, mew=1.2, label="argmax", path_effects=outline)
    for points, marker, colour, label in (
        (coords[refined], "o", _REFINED, "DARK"),
        (coords[~refined], "x", _KEPT, "not refined (see status)"),
    ):
        x, y = on_photo(points).T
        axes.plot(
            x,
            y,
            marker,
            color=colour,
            markersize=5,
            linestyle="",
            label=label,
            path_effects=outline,
        )
