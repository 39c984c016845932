"""Where the original implementations put the pixels of a map and of an input in the image.

Each function follows the source of an original in its own steps (centre and scale, three points,
strides), not the formula of dark_jax.conventions. It computes in float64, one box at a time.
Sizes are (W, H), as in the originals.
"""

from collections.abc import Callable

import numpy as np

Pair = tuple[float, float]
Push = Callable[[np.ndarray], np.ndarray]

PIXEL_STD = 200.0


def centre_and_scale(
    box: np.ndarray, aspect: float, padding: float, *, inclusive: bool = False
) -> tuple[np.ndarray, np.ndarray]:
    """``_xywh2cs``, whose scale is in units of 200 pixels."""
    x, y, w, h = box
    last = 1.0 if inclusive else 0.0
    centre = np.array([x + (w - last) * 0.5, y + (h - last) * 0.5])
    if w > aspect * h:
        h = w / aspect
    elif w < aspect * h:
        w = h * aspect
    return centre, np.array([w / PIXEL_STD, h / PIXEL_STD]) * padding


def _solve(source: np.ndarray, target: np.ndarray) -> Push:
    """The affine map that takes three points to three points."""
    matrix = np.linalg.solve(np.column_stack([source, np.ones(3)]), target)
    return lambda points: np.column_stack([points, np.ones(len(points))]) @ matrix


def _three_points(middle: np.ndarray, up: np.ndarray) -> np.ndarray:
    """The middle, a point away from it, and the middle turned by 90 degrees around that point."""
    first = middle + up
    direction = middle - first
    return np.stack([middle, first, first + np.array([-direction[1], direction[0]])])


def _rotated(vector: np.ndarray, degrees: float) -> np.ndarray:
    sin, cos = np.sin(np.pi * degrees / 180), np.cos(np.pi * degrees / 180)
    return np.array([vector[0] * cos - vector[1] * sin, vector[0] * sin + vector[1] * cos])


def hrnet(box: np.ndarray, size: Pair, padding: float, degrees: float) -> Push:
    width, height = size
    centre, scale = centre_and_scale(box, width / height, padding)
    up = _rotated(np.array([0, -0.5 * scale[0] * PIXEL_STD]), degrees)
    source = _three_points(np.array([width * 0.5, height * 0.5]), np.array([0, -0.5 * width]))
    return _solve(source, _three_points(centre, up))


def darkpose(box: np.ndarray, size: Pair, padding: float, degrees: float) -> Push:
    width, height = size
    centre, scale = centre_and_scale(box, width / height, padding, inclusive=True)
    up = _rotated(np.array([0, -0.5 * (scale[0] * PIXEL_STD - 1)]), degrees)
    middle = np.array([(width - 1) * 0.5, (height - 1) * 0.5])
    source = _three_points(middle, np.array([0, -0.5 * (width - 1)]))
    return _solve(source, _three_points(centre, up))


def mmpose(box: np.ndarray, size: Pair, padding: float, degrees: float) -> Push:
    """``get_warp_matrix`` if the box is turned, else the batched transform to the image."""
    if degrees:
        return hrnet(box, size, padding, degrees)
    centre, scale = centre_and_scale(box, size[0] / size[1], padding)
    scale = scale * PIXEL_STD
    return lambda points: points / np.array(size) * scale + centre - 0.5 * scale


def udp(box: np.ndarray, size: Pair, padding: float, degrees: float) -> Push:
    """``transform_preds``, or ``get_udp_warp_matrix`` solved backwards if the box is turned."""
    centre, scale = centre_and_scale(box, size[0] / size[1], padding)
    scale = scale * PIXEL_STD
    per_pixel = (np.array(size) - 1.0) / scale
    if not degrees:
        return lambda points: points / per_pixel + centre - 0.5 * scale
    sin, cos = np.sin(np.deg2rad(degrees)), np.cos(np.deg2rad(degrees))
    warp = np.array(
        [
            [cos, -sin, -centre[0] * cos + centre[1] * sin + 0.5 * scale[0]],
            [sin, cos, -centre[0] * sin - centre[1] * cos + 0.5 * scale[1]],
        ]
    )
    warp *= per_pixel[:, None]
    return lambda points: np.linalg.solve(warp[:, :2], (points - warp[:, 2]).T).T


def _whole_box(box: np.ndarray, size: Pair, padding: float) -> tuple[np.ndarray, np.ndarray]:
    """The corner and the sides of a padded box of the right aspect."""
    x, y, w, h = box
    aspect = size[0] / size[1]
    across = max(w, h * aspect) * padding
    sides = np.array([across, across / aspect])
    return np.array([x + w / 2, y + h / 2]) - sides / 2, sides


def half_pixel(box: np.ndarray, size: Pair, padding: float, degrees: float) -> Push:
    """A box is cut out and resized: pixel i of n covers the i-th of n equal parts."""
    assert not degrees
    corner, sides = _whole_box(box, size, padding)
    return lambda points: corner + (points + 0.5) * (sides / np.array(size)) - 0.5


def deeplabcut(box: np.ndarray, size: Pair, padding: float, degrees: float) -> Push:
    """``x * stride + 0.5 * stride`` for an input four times the map, then scale and offset."""
    assert not degrees
    to_image = deeplabcut_input(box, (4 * size[0], 4 * size[1]), padding, degrees)
    return lambda points: to_image(points * 4 + 0.5 * 4)


def deeplabcut_input(box: np.ndarray, size: Pair, padding: float, degrees: float) -> Push:
    assert not degrees
    corner, sides = _whole_box(box, size, padding)
    return lambda points: points * (sides / np.array(size)) + corner


def sleap(box: np.ndarray, size: Pair, padding: float, degrees: float) -> Push:
    """``undo_stride`` (4), ``undo_input_scale``, ``add_crop_offset``."""
    assert not degrees
    corner, sides = _whole_box(box, size, padding)
    input_scale = 4 * size[0] / sides[0]
    return lambda points: points * 4 / input_scale + corner


def fan(box: np.ndarray, size: Pair, padding: float, degrees: float) -> Push:
    """``transform(invert=True)`` along each axis, without the rounding to whole pixels."""
    assert not degrees
    corner, sides = _whole_box(box, size, padding)
    centre, resolution = corner + sides / 2, np.array(size)
    scale = resolution / sides
    return lambda points: (points - resolution * (-centre / sides + 0.5)) / scale


def fan_input(box: np.ndarray, size: Pair, padding: float, degrees: float) -> Push:
    """A resize of the box, as the originals of ``HALF_PIXEL``; a map pixel is four of these."""
    to_image = fan(box, size, padding, degrees)
    return lambda points: to_image(points + 0.5)


HOMES: dict[str, Callable[[np.ndarray, Pair, float, float], Push]] = {
    "DARKPOSE": darkpose,
    "HRNET": hrnet,
    "MMPOSE": mmpose,
    "UDP": udp,
    "HALF_PIXEL": half_pixel,
    "DEEPLABCUT": deeplabcut,
    "FAN": fan,
    "SLEAP": sleap,
}
# The network's input in the image. It follows the rule of the map in most originals.
INPUTS = HOMES | {"DEEPLABCUT": deeplabcut_input, "FAN": fan_input}
TURNING = ("DARKPOSE", "HRNET", "MMPOSE", "UDP")

# From an input of 256 x 192 pixels to a map of 64 x 48, as each original draws its targets.
TARGETS: dict[str, Push] = {
    "DARKPOSE": lambda points: np.array([23.5, 31.5]) + (points - [95.5, 127.5]) * 47 / 191,
    "HRNET": lambda points: points / 4,
    "MMPOSE": lambda points: points / 4,
    "UDP": lambda points: points / (np.array([191, 255]) / np.array([47, 63])),
    "HALF_PIXEL": lambda points: (points + 0.5) / 4 - 0.5,
    "DEEPLABCUT": lambda points: (points - 2) / 4,
    "FAN": lambda points: (points + 0.5) / 4,
    "SLEAP": lambda points: points / 4,
}
