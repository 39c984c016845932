"""Keypoint results in COCO's format, and their average precision by faster-coco-eval.

Coordinates are image pixels: map keypoints back with :func:`dark_jax.to_image` first.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy import typing as npt

from dark_jax import skeletons
from dark_jax._core import checks, optional
from dark_jax._core.keypoints import Keypoints
from dark_jax._io import coco_files
from dark_jax._io.atomic import check_target, write_together
from dark_jax._io.plain_json import as_json, json_bytes, plain
from dark_jax._io.tables import has_keypoint

__all__ = ["average_precision", "results", "save"]

# The order is that of COCOeval's statistics of keypoints.
_STATISTICS = ("AP", "AP50", "AP75", "APm", "APl", "AR", "AR50", "AR75", "ARm", "ARl")


def _integers(name: str, value: Any, shape: tuple[int, ...]) -> np.ndarray:
    """Return ``value`` as integers of any size, broadcast to ``shape``."""
    array = checks.numpy_array(name, value)
    if isinstance(value, list | tuple) and array.dtype.kind in "fO":  # may exceed 64 bits
        array = np.asarray(value, object)
    beyond = all(type(each) is int or isinstance(each, np.integer) for each in array.flat)
    if array.size and array.dtype.kind not in "iu" and not (array.dtype == object and beyond):
        raise TypeError(f"{name} must be integers, got dtype {array.dtype}")
    try:
        return np.broadcast_to(array, shape)
    except ValueError:
        raise ValueError(f"{name} must broadcast to {shape}, got shape {array.shape}") from None


def _finite(name: str, value: Any, shape: tuple[int, ...]) -> np.ndarray:
    """Return ``value`` as finite numbers, broadcast to ``shape``."""
    return np.broadcast_to(np.asarray(checks.finite(name, value, shape)), shape)


def results(
    keypoints: Keypoints,
    *,
    image_ids: npt.ArrayLike,
    category_id: int = 1,
    scores: npt.ArrayLike | None = None,
) -> list[dict[str, Any]]:
    """Make COCO results of keypoints, one for each person.

    Args:
        keypoints: :class:`dark_jax.Keypoints` with float ``coords [..., J, 2]`` in image pixels,
            and ``J`` joints in the order of the annotations.
        image_ids: the image of each person, integers that broadcast to ``[...]``.
        category_id: the category of all persons; COCO's person is 1.
        scores: the score of each person, numbers that broadcast to ``[...]``, such as the
            detector's score times the pose's. The default is the mean of the joints' scores,
            where a joint without a keypoint counts as 0.

    Returns:
        A list of dictionaries with ``image_id``, ``category_id``, ``keypoints``
        (``x1, y1, score1, x2, ...``) and ``score``, which hold plain Python numbers.

    Notes:
        A joint without a keypoint (``NO_PEAK``, ``NOT_FINITE``) becomes ``0, 0, 0``, as in COCO.
        A person without any keypoint is left out.

    Raises:
        TypeError: ``keypoints`` are not :class:`dark_jax.Keypoints`; ``image_ids`` or
            ``category_id`` are not integers.
        ValueError: the coordinates are not ``[..., J, 2]``; ``image_ids`` or ``scores`` do not
            broadcast; a score is not finite.

    Example:
        >>> import dark_jax
        >>> keypoints = dark_jax.decode(dark_jax.encode([[[12.0, 9.5]]], size=(24, 20)))
        >>> person = dark_jax.coco.results(keypoints, image_ids=[139])[0]
        >>> person["image_id"], [round(value, 2) for value in person["keypoints"][:2]]
        (139, [12.0, 9.5])

    References:
        https://cocodataset.org/#format-results.
    """
    checks.keypoints("keypoints", keypoints)
    coords = np.asarray(
        checks.coordinates("keypoints.coords", keypoints.coords, layout="[..., J, 2]")
    )
    people = coords.shape[:-2]
    there = has_keypoint(coords, np.asarray(keypoints.status))
    # A joint with coordinates but without a finite score gets a score of 0.
    of_joint = np.asarray(keypoints.scores)
    of_joint = np.where(there & np.isfinite(of_joint), of_joint, 0)
    of_person = of_joint.sum(-1) / max(of_joint.shape[-1], 1)
    if scores is not None:
        given = _finite("scores", scores, people)
        of_person = given if given.dtype.kind == "f" else given.astype(float)
    triples = np.concatenate(
        [np.where(there[..., None], coords, 0), of_joint[..., None]], axis=-1
    ).reshape(*people, 3 * coords.shape[-2])
    ids = _integers("image_ids", image_ids, people)
    category = checks.integer("category_id", category_id)
    return [
        {
            "image_id": int(ids[person]),
            "category_id": category,
            "keypoints": [plain(value) for value in triples[person]],
            "score": plain(of_person[person]),
        }
        for person in np.ndindex(people)
        if there[person].any()
    ]


def save(results: Sequence[Mapping[str, Any]], path: str | os.PathLike[str]) -> None:
    """Write results as COCO's JSON. The file is written completely or not at all.

    Args:
        results: the results of all images together, from :func:`results`.
        path: must end in ``.json``. An existing file is replaced.

    Returns:
        None.

    Raises:
        TypeError: ``results`` is not a list, or holds something that JSON cannot; ``path`` is not
            a path.
        ValueError: ``path`` does not end in ``.json``; a number is not finite.
        OSError: the file cannot be written.

    Example:
        >>> import dark_jax, pathlib, tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = pathlib.Path(folder) / "results.json"
        ...     dark_jax.coco.save([{"image_id": 139, "score": 0.5}], path)
        ...     path.read_text().split()
        ['[', '{', '"image_id":', '139,', '"score":', '0.5', '}', ']']

    References:
        https://cocodataset.org/#format-results.
    """
    path = checks.path("path", path)
    check_target(path, suffixes=(".json",), option="path")
    if isinstance(results, str | bytes | Mapping) or not isinstance(results, Iterable):
        raise TypeError(f"results must be a list of dicts, got {type(results).__name__}")
    for n, one in enumerate(results := [*results]):
        if not isinstance(one, Mapping):
            raise TypeError(f"results[{n}] must be a dict, got {one!r}")
    write_together({path: json_bytes(as_json("results", results))})


def average_precision(
    results: Sequence[Mapping[str, Any]] | str | os.PathLike[str],
    annotations: Mapping[str, Any] | str | os.PathLike[str],
    *,
    sigmas: Sequence[float] = skeletons.COCO.sigmas,
) -> dict[str, float]:
    """Compute COCO's average precision and recall of keypoints, by faster-coco-eval.

    This needs the extra ``eval``.

    Args:
        results: the results of all images together, from :func:`results`, or the path of their
            JSON.
        annotations: COCO's ground truth, as a dictionary or the path of its JSON.
        sigmas: one number for each joint, as for :func:`dark_jax.metrics.oks`. The default is the
            sigmas of :data:`dark_jax.skeletons.COCO`.

    Returns:
        A dictionary of ``AP``, ``AP50``, ``AP75``, ``APm``, ``APl``, ``AR``, ``AR50``, ``AR75``,
        ``ARm`` and ``ARl``: numbers from 0 to 1, or COCO's -1 if there is no person of that size.

    Notes:
        All images and categories of ``annotations`` are scored. Annotated persons on images that
        are not listed are left out. Ids are integers of any size. No two persons may have the
        same id.

    Raises:
        ImportError: faster-coco-eval is not installed.
        TypeError: ``annotations`` is not a dictionary, or ``results`` not a list, also in a file;
            a value in them does not have the type that COCO defines.
        ValueError: a file is not JSON; an image, a person or a result lacks a part; a number is
            not finite; two persons have one id; ``annotations`` do not list the category of a
            person or a result, or the image of a result; a person or a result does not have as
            many joints as ``sigmas``; ``sigmas`` are not positive.
        OSError: a file cannot be read.

    Example:
        >>> import dark_jax
        >>> pose = [value for x in range(17) for value in (10.0 * x, 20.0, 2)]
        >>> person = {"id": 1, "image_id": 1, "category_id": 1, "iscrowd": 0, "keypoints": pose,
        ...           "num_keypoints": 17, "area": 5000.0, "bbox": [0, 0, 160, 40]}
        >>> truth = {"images": [{"id": 1}], "categories": [{"id": 1}], "annotations": [person]}
        >>> result = {"image_id": 1, "category_id": 1, "keypoints": pose, "score": 0.9}
        >>> dark_jax.coco.average_precision([result], truth)["AP"]
        1.0

    References:
        https://cocodataset.org/#keypoints-eval; https://github.com/MiXaiLL76/faster_coco_eval.
    """
    library: Any = optional.load("faster_coco_eval", extra="eval")
    if np.ndim(checks.numpy_array("sigmas", sigmas)) != 1:
        raise ValueError(f"sigmas must be a number for each joint, got {sigmas!r}")
    checks.positive_array("sigmas", sigmas, (len(sigmas),))
    truth, predicted = coco_files.renumbered(
        coco_files.loaded("annotations", annotations, dict),
        coco_files.loaded("results", results, list),
        joints=len(sigmas),
    )
    truth = library.COCO(truth)
    evaluation = library.COCOeval_faster(
        truth, truth.loadRes(predicted), "keypoints", kpt_oks_sigmas=[*map(float, sigmas)]
    )
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    return dict(zip(_STATISTICS, map(float, evaluation.stats), strict=True))
