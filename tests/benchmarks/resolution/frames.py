"""Frames with labelled keypoints: a folder of them, or views of the shipped photograph."""

import csv
import re
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import dark_jax
from dark_jax import conventions, samples

# The network sees a square of this side around the middle of the keypoints, in photo pixels.
SIDE = 256
FACE = ("nose", "right eye", "left eye", "right ear", "left ear")
# How much each view enlarges, shears, shifts (in pixels) and turns (in degrees) the photograph.
ZOOM, SHEAR, SHIFT, TURN = (1.5, 2.2), 0.1, 20.0, 40.0
CONTRAST, NOISE = (0.6, 1.4), 0.04
# A disc of each view shows the part of the photograph that is COVER photo pixels further down.
COVER, RADIUS = 110.0, (20.0, 50.0)


class Frames(NamedTuple):
    """Real pictures and the positions of their keypoints.

    Attributes:
        images: ``[N, H, W, C]`` float32, 0 to 1.
        points: ``[N, J, 2]`` float32, ``(x, y)`` in pixels, NaN for a missing keypoint.
        joints: names of the ``J`` keypoints.
        turn: the degrees to each side by which an example may be turned and still be a frame.
        source: a description of the frames for people.
    """

    images: np.ndarray
    points: np.ndarray
    joints: tuple[str, ...]
    turn: float
    source: str

    @property
    def boxes(self) -> np.ndarray:
        """``[N, 4]``, ``(x, y, w, h)``: the squares to crop, around the middle of the keypoints."""
        ends = np.nanmin(self.points, axis=1), np.nanmax(self.points, axis=1)
        corner = (ends[0] + ends[1]) / 2 - (SIDE - 1) / 2
        return np.concatenate([corner, np.full_like(corner, SIDE)], axis=-1)

    @property
    def pairs(self) -> tuple[tuple[int, int], ...]:
        """Pairs of joints that a mirror swaps: ``left...`` and ``right...``."""
        places = {name: n for n, name in enumerate(self.joints)}
        lefts = [name for name in self.joints if name.startswith("left")]
        rights = [re.sub("^left", "right", name) for name in lefts]
        return tuple(
            (places[left], places[right])
            for left, right in zip(lefts, rights, strict=True)
            if right in places
        )


def read(folder: Path) -> Frames:
    """Read ``labels.csv`` and the pictures in ``crops``.

    The columns are ``file``, and ``NAME_x, NAME_y`` for each keypoint. ``crop_x, crop_y``, the
    corner of a picture in the image that it was cut from, are ignored. Frames may be turned all
    round, as those of an animal seen from above.

    Raises:
        OSError: a file is missing.
        ValueError: the table has no rows or no keypoints, or the pictures are not of one size.
    """
    from PIL import Image

    table = folder / "labels.csv"
    with table.open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    columns = [name for name in rows[0] if name.endswith("_x")] if rows else []
    joints = tuple(name.removesuffix("_x") for name in columns if name != "crop_x")
    if not joints:
        raise ValueError(f"{table} must have rows, and columns NAME_x and NAME_y for keypoints")
    pictures = []
    for row in rows:
        with Image.open(folder / "crops" / row["file"]) as picture:
            pictures.append(np.asarray(picture.convert("L"), np.float32)[..., None] / 255)
    if len({picture.shape for picture in pictures}) != 1:
        raise ValueError(f"the pictures in {folder / 'crops'} must be of one size")
    points = [[[row[f"{j}_x"] or "nan", row[f"{j}_y"] or "nan"] for j in joints] for row in rows]
    return Frames(
        images=np.stack(pictures),
        points=np.array(points, np.float32),
        joints=joints,
        turn=180.0,
        source=f"{len(rows)} labelled frames of {folder}",
    )


def landmarks(names: tuple[str, ...] = FACE) -> np.ndarray:
    """``[J, 2]``: joints of the shipped photograph, in its pixels, where a real network sees them.

    Even if they miss the person's joints, they are points of the photograph, and so of each view.
    """
    sample = samples.load()
    chosen = sample.heatmaps[0, [sample.joints.index(name) for name in names]]
    height, width = sample.image.shape[:2]
    affine = dark_jax.box_to_affine(
        np.array([0, 0, width, height]),
        map_size=chosen.shape[-2:],
        convention=conventions.HALF_PIXEL,
        padding=1.0,
    )
    return np.asarray(dark_jax.to_image(dark_jax.decode(chosen), affine).coords)


def made(count: int = 116, *, seed: int = 0, photo: np.ndarray | None = None) -> Frames:
    """Make affine views of the face in the shipped photograph, with exactly known keypoints.

    Each view is turned, enlarged, sheared and shifted at random. It has another contrast and
    noise, and a disc from elsewhere in the photograph covers a part of it.

    Args:
        count: the number of views.
        seed: the seed of everything that is random.
        photo: ``[H, W, C]``, 0 to 255, to use in place of the photograph.
    """
    photo = np.asarray(samples.load().image if photo is None else photo, np.float32) / 255
    points = landmarks()
    generator = np.random.default_rng(seed)
    angle = np.deg2rad(generator.uniform(-TURN, TURN, count))
    turn = np.stack([np.cos(angle), -np.sin(angle), np.sin(angle), np.cos(angle)], axis=-1)
    shear = np.eye(2) + generator.uniform(-SHEAR, SHEAR, (count, 2, 2))
    linear = turn.reshape(count, 2, 2) @ shear / generator.uniform(*ZOOM, (count, 1, 1))
    middle = SIDE / 2 + generator.uniform(-SHIFT, SHIFT, (count, 2))
    offset = points.mean(axis=0) - np.einsum("nij,nj->ni", linear, middle)
    pushes = np.concatenate([linear, offset[..., None]], axis=-1).astype(np.float32)
    views = np.asarray(_views(photo, pushes))
    lower = np.array([0, COVER], np.float32)
    covers = np.asarray(_views(photo, pushes + np.pad(lower[:, None], [(0, 0), (2, 0)])))
    y, x = np.mgrid[:SIDE, :SIDE]
    centres = generator.uniform(0, SIDE, (count, 2, 1, 1))
    radii = generator.uniform(*RADIUS, (count, 1, 1))
    over = (x - centres[:, 0]) ** 2 + (y - centres[:, 1]) ** 2 < radii**2
    views = np.where(over[..., None], covers, views)
    views = 0.5 + (views - 0.5) * generator.uniform(*CONTRAST, (count, 1, 1, 1))
    views += NOISE * generator.standard_normal(views.shape)
    truth = dark_jax.apply_affine(
        np.broadcast_to(points, (count, *points.shape)), dark_jax.invert_affine(pushes)
    )
    return Frames(
        images=np.clip(views, 0, 1).astype(np.float32),
        points=np.asarray(truth),
        joints=FACE,
        turn=TURN,
        source=f"{count} frames made of the shipped photograph (no --data was named)",
    )


@jax.jit
def _views(photo: jax.Array, pushes: jax.Array) -> jax.Array:
    """Views of the photo. ``pushes`` are the affine transforms from view to photo."""
    size = (SIDE, SIDE)
    convention = conventions.HALF_PIXEL
    fill = jnp.mean(photo, axis=(0, 1))
    return dark_jax.crop(
        photo, pushes, input_size=size, map_size=size, convention=convention, fill=fill
    )
