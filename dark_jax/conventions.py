"""Where published code puts a heatmap pixel in the image.

The same peak lands up to two pixels apart under four published conventions, so none is the
default. A :class:`Convention` is a row of data, as a rule of :mod:`dark_jax.rules` is; the
functions that take one are :func:`dark_jax.box_to_affine`, :func:`dark_jax.map_to_input` and
:func:`dark_jax.crop`.

Along each axis, a box from ``x`` that is ``w`` wide, ``S`` once it has the map's aspect and its
padding, lies under the ``W`` pixels of a map like this, all in pixels of the image::

    image = (x + w / 2 - box_middle) + (S - box_less) / (W - map_less) * (pixel - middle)
    middle = W / 2 - map_middle

Published code writes boxes as a centre and a scale in units of 200 pixels, padding included. The
unit cancels; such a pair is the box that has this middle and these sides, with ``padding=1``.

Where an original breaks, its convention does the sane thing:

- a box is padded wherever it is (``HRNET``, ``DARKPOSE``: not if its middle is at x = -1);
- rotation is undone on the way back (published ways back of whole batches drop it);
- a box is taken as it is (HRNet's loader takes a pixel off annotated sides, DeepLabCut rounds
  its crops to whole pixels: do so before, if you must).

The conventions:

- ``MMPOSE``, ``SLEAP``: pixel ``i`` of a map is pixel ``s i`` of the input, ``s`` the stride
- ``HRNET``: the same, with one scale for both axes
- ``UDP``: the outermost pixel centres lie on the box's edges, ``x`` and ``x + w``; also ViTPose's
  and Hugging Face's
- ``DARKPOSE``: they lie on the box's outermost pixels, ``x`` and ``x + w - 1``; one scale
- ``HALF_PIXEL``: pixels are squares that fill the box, as OpenCV and torch resize
- ``DEEPLABCUT``: pixel ``i`` is pixel ``s (i + 0.5)`` of the input
- ``CONVENTIONS``: all of them, a tuple
"""

from dataclasses import dataclass

import jax

from dark_jax._core import checks

__all__ = [
    "CONVENTIONS",
    "DARKPOSE",
    "DEEPLABCUT",
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

    To JAX it is a pytree without leaves, as a :class:`dark_jax.rules.Rule` is.

    Attributes:
        name: its name here.
        source: where it is published.
        box_middle: pixels of the image by which the box's middle is less than ``x + w / 2``.
        map_middle: pixels by which the map's middle is less than ``W / 2``: 0.5 where that
            counts from pixel centres, 0 where from the first pixel's edge.
        input_middle: the same, of the network's input.
        box_less: what is taken from the box's sides before they are divided.
        map_less: what is taken from the sides of a map or input to divide them by: 1 where its
            outermost pixel centres lie on the box's edges.
        one_scale: the scale of the x axis serves y as well, so the box must have the map's
            aspect.
        turn: 1 where a positive rotation turns the box from the x axis towards y, clockwise
            as seen; -1 where the other way.

    Example:
        >>> import dark_jax
        >>> mine = dark_jax.conventions.Convention(name="MINE", source="ours", map_middle=0.5)
        >>> sizes = {"map_size": (64, 48), "input_size": (256, 192)}
        >>> affine = dark_jax.map_to_input(**sizes, convention=mine)
        >>> dark_jax.apply_affine([10.0, 20.0], affine).tolist()
        [42.0, 82.0]

    References:
        The ``source`` of each; Huang et al., CVPR 2020, arXiv:1911.07524, on what they cost.
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
        """Refuse what no box can be mapped by."""
        what = f"convention {self.name}:"
        for name in ("box_middle", "map_middle", "input_middle", "box_less", "map_less"):
            value = getattr(self, name)
            if not isinstance(value, int | float) or not abs(value) < float("inf"):
                raise ValueError(f"{what} {name} must be a finite number, got {value!r}")
        checks.flag(f"{what} one_scale", self.one_scale)
        if self.turn not in (1, -1):
            raise ValueError(f"{what} turn must be 1 or -1, got {self.turn!r}")

    def __repr__(self) -> str:
        """The name alone: a table says the rest."""
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
SLEAP = Convention(
    name="SLEAP",
    source="SLEAP, sleap-nn: undo_stride, undo_input_scale, add_crop_offset",
)

CONVENTIONS = (DARKPOSE, HRNET, MMPOSE, UDP, HALF_PIXEL, DEEPLABCUT, SLEAP)
