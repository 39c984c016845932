"""Keypoint heatmaps to sub-pixel coordinates, and back, in JAX.

    >>> import jax
    >>> import dark_jax
    >>> heatmaps = dark_jax.encode([[20.25, 30.5], [24.0, 18.75]], size=(64, 48))
    >>> heatmaps.shape
    (2, 64, 48)
    >>> jax.jit(dark_jax.decode)(heatmaps).coords.round(2).tolist()
    [[20.25, 30.5], [24.0, 18.75]]

Functions by task:

- decode maps with one keypoint each: ``decode`` (DARK, fast; published decoders are ``rules``),
  ``decode_fit`` (the most exact; it needs the sigma of the blobs, which ``estimate_sigma``
  finds), ``decode_soft_argmax`` (for networks that are trained with it), ``decode_simcc`` and
  ``simcc_visibility`` (rows of bins instead of maps)
- decode maps with several keypoints each: ``decode_peaks``
- read the results: ``Keypoints``, with a ``Status`` for each; ``save`` and ``coco`` write them
- make heatmaps to train with: ``encode``
- go to image pixels and back: ``box_to_affine``, ``to_image``, ``apply_affine``,
  ``invert_affine``, ``map_to_input``, ``crop``, with a convention of ``conventions``
- run the flip test: ``flip_heatmaps``, ``merge_flipped``, with the mirror pairs of ``skeletons``
- measure the error of a pose: ``metrics``
- decode files that are larger than memory: ``decode_store``, ``UnreadChunksError``
- get exactly the results of DarkPose: ``get_final_preds``, ``get_max_preds``, ``gaussian_blur``,
  ``taylor``
- import these modules by name when you need them: ``dark_jax.export`` (a decoder in one file, for
  a server), ``dark_jax.plot`` (pictures), ``dark_jax.samples`` (heatmaps of a real network)

Coordinates are ``(x, y)``, or ``(x,)`` or ``(x, y, z)`` for maps of one or three dimensions. They
are in heatmap pixels unless stated otherwise, and pixel centres are integers. Sizes are
``(H, W)``.

Arrays may be JAX arrays, NumPy arrays or lists of numbers. Real numbers are booleans, integers
and floats of at most 64 bits. Results are JAX arrays. They are computed in float32, or in float64
if the maps or coordinates are float64 and x64 is enabled in JAX.

A static argument is a Python value that ``jit`` treats as a constant. Bind it before ``jit``, for
example with ``functools.partial``. All other arguments of functions of arrays may be traced. A
wrong value raises an error, but the value of a traced argument cannot be checked. Functions of
arrays work inside ``jit``, ``vmap``, ``grad`` and on sharded arrays. ``save``, ``decode_store``,
``coco``, ``export`` and ``plot`` do not.

``decode_peaks``, ``get_final_preds``, and ``decode`` or ``decode_simcc`` with a rule that
rescales to the old maximum choose from the data whether a slower method is needed. Inside your
own ``vmap``, both methods run for every map. On a sharded batch, the choice needs communication
between devices, and it raises an error on an explicit mesh. To avoid this, call these functions
inside ``jax.shard_map``.

Shapes use the same letters everywhere, and ``...`` stands for any number of leading axes:

- ``B``: images of a batch
- ``I``, ``K``: instances in an image (persons, boxes), and those of another set
- ``J``: joints, with one heatmap each
- ``D``, ``H``, ``W``: slices, rows and columns of a map or of an image
- ``C``: channels of an image
- ``T``: thresholds
- ``dim``: the number of axes of a map, one to three
"""

from dark_jax import coco, conventions, metrics, rules, skeletons
from dark_jax._codecs.decode import decode
from dark_jax._codecs.decode_fit import decode_fit
from dark_jax._codecs.decode_peaks import decode_peaks
from dark_jax._codecs.decode_simcc import decode_simcc, simcc_visibility
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
    "simcc_visibility",
    "skeletons",
    "taylor",
    "to_image",
]

publish(globals())
del publish
