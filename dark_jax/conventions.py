"""Where published code puts a heatmap pixel in the image.

The same peak can land two pixels apart under two published conventions, so there is no default. A
:class:`Convention` is a row of data, like a rule of :mod:`dark_jax.rules`. The functions
:func:`dark_jax.box_to_affine`, :func:`dark_jax.map_to_input` and :func:`dark_jax.crop` take one.

- ``MMPOSE``, ``SLEAP``: pixel ``i`` of a map is pixel ``s i`` of the input, ``s`` is the stride
- ``HRNET``: the same, with one scale for both axes
- ``UDP``: the outermost pixel centres lie on the edges ``x`` and ``x + w`` of the box; ViTPose
  and Hugging Face use it too
- ``DARKPOSE``: the outermost pixel centres lie on the outermost pixels of the box, ``x`` and
  ``x + w - 1``; one scale for both axes
- ``HALF_PIXEL``: pixels are squares that fill the box, as in the resize of OpenCV and torch
- ``DEEPLABCUT``: pixel ``i`` of a map is pixel ``s (i + 0.5)`` of the input
- ``FAN``: as ``MMPOSE``, for the coordinates of ``rules.FAN``, which contain half a pixel. It
  leaves out the rounding of crop and result to whole image pixels
- ``CONVENTIONS``: all of them, a tuple

The formula is the same for all. It holds along each axis, but with one scale for both axes, the
scale of x is used for y. A box starts at ``x`` and is ``w`` wide. ``S`` is its width after it is
widened to the aspect of the map and padded. The map is ``W`` pixels wide. In pixels of the
image::

    image = (x + w / 2 - box_middle) + (S - box_less) / (W - map_less) * (pixel - middle)
    middle = W / 2 - map_middle

Published code writes boxes as a centre and a scale in units of 200 pixels, padding included. Use
the box with this centre, sides of 200 times the scale, and ``padding=1``.

Three faults of the original code are not copied:

- a box is padded wherever it is (``HRNET`` and ``DARKPOSE`` do not pad a box whose centre is at
  x = -1);
- rotation is undone on the way back (published code for whole batches leaves it out);
- a box is taken as it is (HRNet's loader subtracts a pixel from annotated sides, and DeepLabCut
  rounds its crops to whole pixels; do that to your boxes first if you need it).
"""

from dataclasses import dataclass

import jax

from dark_jax._core import checks

__all__ = [
    "CONVENTIONS",
    "DARKPOSE",
    "DEEPLABCUT",
    "FAN",
    "HALF_PIXEL",
    "HRNET",
    "MMPOSE",
    "SLEAP",
    "UDP",
    "Convention",
]


@jax.tree_util.register_static
@dataclass(frozen=True, kw_only=True)
class Convention:
    """Where the pixels of a map, and of the network's input, lie in a box of the image.

    Attributes:
        name: the name of the convention.
        source: where it is published.
        box_middle: the centre of the box is at ``x + w / 2`` minus this, in image pixels.
        map_middle: the centre of the map is at ``W / 2`` minus this, in pixels: 0.5 if pixel
            centres are integers, 0 if the edge of the first pixel is 0.
        input_middle: the same for the network's input.
        box_less: this is subtracted from the sides of the box before the division.
        map_less: this is subtracted from the sides of the map or input for the division: 1 if the
            outermost pixel centres lie on the edges of the box.
        one_scale: the scale of the x axis is used for y too, so the box must have the aspect of
            the map.
        turn: 1 if a positive rotation turns the box from the x axis towards y, which looks
            clockwise; -1 if it turns the other way.

    Notes:
        For JAX, a convention is a pytree without leaves, like a :class:`dark_jax.rules.Rule`.

    Example:
        >>> import dark_jax
        >>> mine = dark_jax.conventions.Convention(name="MINE", source="ours", map_middle=0.5)
        >>> sizes = {"map_size": (64, 48), "input_size": (256, 192)}
        >>> affine = dark_jax.map_to_input(**sizes, convention=mine)
        >>> dark_jax.apply_affine([10.0, 20.0], affine).tolist()
        [42.0, 82.0]

    References:
        The ``source`` of each convention. Huang et al., CVPR 2020, arXiv:1911.07524, measure
        their effect.
    """

    name: str
    source: str
    box_middle: float = 0.0
    map_middle: float = 0.0
    input_middle: float = 0.0
    box_less: int = 0
    map_less: int = 0
    one_scale: bool = False
    turn: int = 1

    def __post_init__(self) -> None:
        """Check the fields: a wrong one raises an error."""
        what = f"convention {self.name}:"
        for name in ("box_middle", "map_middle", "input_middle", "box_less", "map_less"):
            value = getattr(self, name)
            if not isinstance(value, int | float) or not abs(value) < float("inf"):
                raise ValueError(f"{what} {name} must be a finite number, got {value!r}")
        checks.flag(f"{what} one_scale", self.one_scale)
        if self.turn not in (1, -1):
            raise ValueError(f"{what} turn must be 1 or -1, got {self.turn!r}")

    def __repr__(self) -> str:
        """Return the name only; ``vars`` shows the fields."""
        return f"conventions.{self.name}"


DARKPOSE = Convention(
    name="DARKPOSE",
    source="DarkPose: get_affine_transform",
    box_middle=0.5,
    map_middle=0.5,
    input_middle=0.5,
    box_less=1,
    map_less=1,
    one_scale=True,
)
HRNET = Convention(
    name="HRNET",
    source="HRNet, SimpleBaseline: get_affine_transform",
    one_scale=True,
)
MMPOSE = Convention(
    name="MMPOSE",
    source="mmpose: get_warp_matrix, and every codec but UDP",
)
UDP = Convention(
    name="UDP",
    source="UDP-Pose, mmpose, ViTPose, transformers: get_warp_matrix, transform_preds(use_udp)",
    map_middle=0.5,
    input_middle=0.5,
    map_less=1,
    turn=-1,
)
HALF_PIXEL = Convention(
    name="HALF_PIXEL",
    source="OpenCV: resize; torch: interpolate(align_corners=False)",
    box_middle=0.5,
    map_middle=0.5,
    input_middle=0.5,
)
DEEPLABCUT = Convention(
    name="DEEPLABCUT",
    source="DeepLabCut: HeatmapPredictor, top_down_crop",
    map_middle=0.5,
)
FAN = Convention(
    name="FAN",
    source="face-alignment: transform_np",
    input_middle=0.5,
)
SLEAP = Convention(
    name="SLEAP",
    source="SLEAP, sleap-nn: undo_stride, undo_input_scale, add_crop_offset",
)

CONVENTIONS = (DARKPOSE, HRNET, MMPOSE, UDP, HALF_PIXEL, DEEPLABCUT, FAN, SLEAP)
