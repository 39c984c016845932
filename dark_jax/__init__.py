"""Keypoint heatmaps to sub-pixel coordinates, and back, in JAX.

    >>> import jax
    >>> import dark_jax
    >>> heatmaps = dark_jax.encode([[20.25, 30.5], [24.0, 18.75]], size=(64, 48))
    >>> heatmaps.shape
    (2, 64, 48)
    >>> jax.jit(dark_jax.decode)(heatmaps).coords.round(2).tolist()
    [[20.25, 30.5], [24.0, 18.75]]

What there is, by task:

- one keypoint a map: ``decode`` (DARK, fast; published decoders as ``rules``), ``decode_fit``
  (the most exact, for a known sigma; ``estimate_sigma`` finds it), ``decode_soft_argmax``
  (differentiable everywhere), ``decode_simcc`` (rows of bins instead of maps)
- several a map: ``decode_peaks``
- what comes out: ``Keypoints`` with a ``Status`` each; ``save`` and ``coco`` write them
- heatmaps to train with: ``encode``
- to image pixels and back: ``box_to_affine``, ``to_image``, ``apply_affine``, ``invert_affine``,
  ``map_to_input``, ``crop``, with a convention of ``conventions``
- the flip test: ``flip_heatmaps``, ``merge_flipped``, with the mirror pairs of ``skeletons``
- how good a pose is: ``metrics``
- more than fits memory: ``decode_store``, ``UnreadChunksError``
- DarkPose's own functions, exactly: ``get_final_preds``, ``get_max_preds``, ``gaussian_blur``,
  ``taylor``
- imported by themselves: ``dark_jax.export`` (one file for a server), ``dark_jax.plot``
  (pictures), ``dark_jax.samples`` (a real network's heatmaps)

Coordinates are ``(x, y)``, ``(x,)`` or ``(x, y, z)``, with pixel centres at integers; pixels are
heatmap pixels where nothing else is said. Sizes are ``(H, W)``. Arrays may be JAX's, NumPy's or
lists of numbers; real are booleans, integers and floats up to 64 bits, and results are JAX's.
Computation is in float32, or in float64 where an argument is float64 and JAX's x64 is on. A
static argument is a Python value, fixed under ``jit``; of what may be traced, wrong values are
an error where they are known now.

Shapes have the same letters everywhere, and ``...`` for any leading axes or none:

- ``B``: images of a batch
- ``I``, ``K``: instances in an image (persons, boxes), and those of another set
- ``J``: joints, a heatmap each
- ``D``, ``H``, ``W``: slices, rows and columns of a map, or of an image
- ``C``: channels of an image
- ``T``: thresholds
- ``dim``: how many axes a map has, one to three
"""

from dark_jax import coco, conventions, metrics, rules, skeletons
from dark_jax._codecs.decode import decode
from dark_jax._codecs.decode_fit import decode_fit
from dark_jax._codecs.decode_peaks import decode_peaks
from dark_jax._codecs.decode_simcc import decode_simcc
from dark_jax._codecs.decode_soft_argmax import decode_soft_argmax
from dark_jax._codecs.encode import encode
from dark_jax._codecs.estimate_sigma import estimate_sigma
from dark_jax._codecs.reference import gaussian_blur, get_final_preds, get_max_preds, taylor
from dark_jax._core.keypoints import Keypoints, Status
from dark_jax._core.namespace import publish
from dark_jax._core.version import __version__ as __version__
from dark_jax._geometry.affine import apply_affine, invert_affine, to_image
from dark_jax._geometry.boxes import box_to_affine, map_to_input
from dark_jax._geometry.crop import crop
from dark_jax._geometry.flip import flip_heatmaps, merge_flipped
from dark_jax._io.tables import save
from dark_jax._stores.decode_store import UnreadChunksError, decode_store

__all__ = [
    "Keypoints",
    "Status",
    "UnreadChunksError",
    "apply_affine",
    "box_to_affine",
    "coco",
    "conventions",
    "crop",
    "decode",
    "decode_fit",
    "decode_peaks",
    "decode_simcc",
    "decode_soft_argmax",
    "decode_store",
    "encode",
    "estimate_sigma",
    "flip_heatmaps",
    "gaussian_blur",
    "get_final_preds",
    "get_max_preds",
    "invert_affine",
    "map_to_input",
    "merge_flipped",
    "metrics",
    "rules",
    "save",
    "skeletons",
    "taylor",
    "to_image",
]

publish(globals())
del publish
