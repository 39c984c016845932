"""COCO's keypoint results: written, and scored by faster-coco-eval.

Coordinates here are image pixels: map a crop's keypoints back first.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy import typing as npt

from dark_jax._core import checks, optional
from dark_jax._core.keypoints import Keypoints
from dark_jax._io.atomic import check_target, write_together
from dark_jax._io.plain_json import as_json, json_bytes, plain
from dark_jax._io.tables import has_keypoint
from dark_jax.metrics import COCO_SIGMAS

__all__ = ["average_precision", "results", "save"]

# In the order of COCOeval's statistics of keypoints.
_STATISTICS = ("AP", "AP50", "AP75", "APm", "APl", "AR", "AR50", "AR75", "ARm", "ARl")


def _integers(name: str, value: Any, shape: tuple[int, ...]) -> np.ndarray:
    """``value`` as integers of any size, broadcast to ``shape``."""
    try:
        array = np.asarray(value)
    except Exception as error:  # lists of unequal lengths, arrays of other libraries
        raise TypeError(f"{name} must be integers: {error}") from error
    if array.size and array.dtype.kind not in "iu":
        raise TypeError(f"{name} must be integers, got dtype {array.dtype}")
    try:
        return np.broadcast_to(array, shape)
    except ValueError:
        raise ValueError(f"{name} must broadcast to {shape}, got shape {array.shape}") from None


def _finite(name: str, value: Any, shape: tuple[int, ...]) -> np.ndarray:
    """``value`` as finite numbers, broadcast to ``shape``."""
    return np.broadcast_to(np.asarray(checks.finite(name, value, shape)), shape)


def results(
    keypoints: Keypoints,
    *,
    image_ids: npt.ArrayLike,
    category_id: int = 1,
    scores: npt.ArrayLike | None = None,
) -> list[dict[str, Any]]:
    """Keypoints as COCO results, one a person.

    A joint without a keypoint (``NO_PEAK``, ``NOT_FINITE``) is ``0, 0, 0``, as in COCO; a person
    without any is left out.

    Args:
        keypoints: float ``coords [..., J, 2]`` in image pixels, ``J`` joints in the annotations'
            order.
        image_ids: of each person, integers that broadcast to ``[...]``.
        category_id: COCO's person is 1.
        scores: of each person, numbers that broadcast to ``[...]``: the detector's, say, times
            that of the pose. If not given, the mean of the joints' scores, where a joint without
            a keypoint scores 0.

    Returns:
        Dicts of ``image_id``, ``category_id``, ``keypoints`` ``x1, y1, score1, x2, ...`` and
        ``score``, of plain Python numbers.

    Raises:
        TypeError: ``keypoints`` are none; ``image_ids`` or ``category_id`` are no integers.
        ValueError: coordinates are not ``[..., J, 2]``; ``image_ids`` or ``scores`` do not
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
    # What has a place but no finite score has a score of 0.
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
    """Write results as COCO's JSON, whole or not at all.

    Args:
        results: of :func:`results`, of all images together.
        path: ends in ``.json``; an older file is replaced.

    Returns:
        None.

    Raises:
        TypeError: ``results`` are no list, or hold what JSON cannot; ``path`` is no path.
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
    if isinstance(results, str | bytes | Mapping) or not isinstance(results, Sequence):
        raise TypeError(f"results must be a list of dicts, got {type(results).__name__}")
    for n, one in enumerate(results):
        if not isinstance(one, Mapping):
            raise TypeError(f"results[{n}] must be a dict, got {one!r}")
    write_together({path: json_bytes(as_json("results", [*results]))})


def average_precision(
    results: Sequence[Mapping[str, Any]] | str | os.PathLike[str],
    annotations: Mapping[str, Any] | str | os.PathLike[str],
    *,
    sigmas: Sequence[float] = COCO_SIGMAS,
) -> dict[str, float]:
    """COCO's average precision and recall of keypoints, by faster-coco-eval (extra ``eval``).

    Args:
        results: of :func:`results`, of all images together, or the path of their JSON.
        annotations: COCO's ground truth, as a dict or the path of its JSON. All its images and
            categories are scored; persons on other images are left out. Ids are integers of any
            size, each person's its own.
        sigmas: of each joint, as for :func:`dark_jax.metrics.oks`.

    Returns:
        ``AP``, ``AP50``, ``AP75``, ``APm``, ``APl`` and the same of ``AR``: 0 to 1, and COCO's
        -1 where there is no person of that size.

    Raises:
        ImportError: faster-coco-eval is not installed.
        TypeError: ``annotations`` are no dict, ``results`` no list, in a file either; a part of
            them is of another type than COCO's.
        ValueError: a file is no JSON; an image, a person or a result lacks a part; a number is
            not finite; two persons have one id; a person or a result is of a category that
            ``annotations`` do not list, or a result of such an image; either is not of as many
            joints as ``sigmas``, which must be positive.
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
    if np.ndim(sigmas) != 1:
        raise ValueError(f"sigmas must be a number for each joint, got {sigmas!r}")
    checks.positive_array("sigmas", sigmas, (len(sigmas),))
    truth, predicted = _renumbered(
        _loaded("annotations", annotations, dict),
        _loaded("results", results, list),
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


def _loaded(name: str, value: Any, kind: type) -> Any:
    """What a path's JSON says, or the value, as a ``dict`` or a ``list``."""
    what = name
    if isinstance(value, str | os.PathLike):
        what = f"{name} in {value}"
        try:
            value = json.loads(Path(value).read_bytes())
        except ValueError as error:
            raise ValueError(f"{what}: not readable as JSON ({error})") from error
    if not isinstance(value, Mapping if kind is dict else Sequence):
        raise TypeError(f"{what} must be a {kind.__name__}, got {type(value).__name__}")
    return kind(value)


def _renumbered(
    annotations: dict[str, Any], results: list[Any], *, joints: int
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """What counts of both, with ids from 1 on.

    COCO's code never finds a person whose id is 0, nor this one's one beyond 64 bits, and takes
    persons of one id for one.
    """
    person = {
        "image_id": _integer,
        "category_id": _integer,
        "keypoints": _row(3 * joints, f"3 numbers for each of the {joints} sigmas"),
    }
    annotated = {"id": _integer, **person, "num_keypoints": _integer, "area": _number}
    annotated |= {"bbox": _row(4, "4 numbers, (x, y, w, h)"), "iscrowd": _integer}
    lists = {"images": _list, "categories": _list, "annotations": _list}
    told = _parts("annotations", annotations, lists)
    ids: dict[str, dict[int, int]] = {}
    for kind in ("images", "categories"):
        each = [_parts(f"{kind}[{n}]", one, {"id": _integer}) for n, one in enumerate(told[kind])]
        # In their order, in which the evaluation sorts results of equal scores.
        ids[kind] = {old: n for n, old in enumerate(sorted({one["id"] for one in each}), 1)}

    people: dict[int, dict[str, Any]] = {}
    for n, one in enumerate(told["annotations"]):
        one = {"iscrowd": 0, **one} if isinstance(one, Mapping) else one
        found = _parts(f"annotations[{n}]", one, annotated)
        if found["id"] in people:
            raise ValueError(f"annotations must have an id each, got {found['id']} twice")
        people[found["id"]] = found
    predicted = [
        _parts(f"results[{n}]", one, {**person, "score": _number}) for n, one in enumerate(results)
    ]
    for n, one in enumerate(predicted):
        if one["image_id"] not in ids["images"]:
            raise ValueError(f"results[{n}] must be of annotated images, got {one['image_id']}")
    everyone = [("annotations", one) for one in people.values()]
    for name, one in [*everyone, *(("results", one) for one in predicted)]:
        if one["category_id"] not in ids["categories"]:
            raise ValueError(
                f"{name} must be of the annotations' categories, {[*ids['categories']]}, got "
                f"category_id {one['category_id']}"
            )

    def renumbered(one: dict[str, Any]) -> dict[str, Any]:
        image, category = ids["images"][one["image_id"]], ids["categories"][one["category_id"]]
        return one | {"image_id": image, "category_id": category}

    there = [one for one in people.values() if one["image_id"] in ids["images"]]
    return {
        "images": [{"id": n} for n in ids["images"].values()],
        "categories": [{"id": n} for n in ids["categories"].values()],
        "annotations": [renumbered(one) | {"id": n} for n, one in enumerate(there, 1)],
    }, [renumbered(one) for one in predicted]


def _parts(name: str, told: Any, parts: Mapping[str, Callable[[str, Any], Any]]) -> dict[str, Any]:
    """The parts of an entry, each as its check gives it."""
    if not isinstance(told, Mapping):
        raise TypeError(f"{name} must be a dict, got {type(told).__name__}")
    for part in parts:
        if part not in told:
            got = ", ".join(map(str, told)) or "nothing"
            raise ValueError(f"{name} must say {part!r}, got only {got}")
    return {part: check(f"{name}: {part}", told[part]) for part, check in parts.items()}


def _list(name: str, value: Any) -> list[Any]:
    if not isinstance(value, list | tuple):
        raise TypeError(f"{name} must be a list, got {type(value).__name__}")
    return [*value]


def _integer(name: str, value: Any) -> int:
    whole = isinstance(value, float) and value.is_integer()  # as tables of numbers make of it
    return int(value) if whole else checks.integer(name, value)


def _number(name: str, value: Any) -> float:
    return _numbers(name, value, (), "a number").item()


def _row(count: int, expected: str) -> Callable[[str, Any], list[float]]:
    return lambda name, value: _numbers(name, value, (count,), expected).tolist()


def _numbers(name: str, value: Any, shape: tuple[int, ...], expected: str) -> np.ndarray:
    """``value`` as float64 of this shape, all of them finite."""
    found = tuple(checks.real_array(name, value).shape)
    if found != shape:
        got = found[0] if len(found) == 1 else f"shape {found}"
        raise ValueError(f"{name} must be {expected}, got {got}")
    array = np.asarray(value, float)
    checks.require(name, array, np.isfinite, "finite")
    return array
