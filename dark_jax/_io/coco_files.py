"""Read COCO's keypoint files, check each part, and renumber the ids."""

import json
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from dark_jax._core import checks

Check = Callable[[str, Any], Any]


def loaded(name: str, value: Any, kind: type) -> Any:
    """Return the JSON at a path, or the value itself, as a ``dict`` or a ``list``."""
    what = name
    if isinstance(value, str | os.PathLike):
        what = f"{name} in {value}"
        try:
            value = json.loads(Path(value).read_bytes())
        except (ValueError, RecursionError) as error:
            raise ValueError(f"{what}: not readable as JSON ({error})") from error
    if not isinstance(value, Mapping if kind is dict else Sequence):
        expected = kind.__name__ if what != name else f"{kind.__name__} or a path"
        raise TypeError(f"{what} must be a {expected}, got {type(value).__name__}")
    return kind(value)


def renumbered(
    annotations: dict[str, Any], results: list[Any], *, joints: int
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Return the parts of annotations and results that are scored, with ids numbered from 1.

    COCO's code never finds a person whose id is 0. faster-coco-eval never finds a person whose id
    is negative or needs more than 64 bits. Both take two persons with the same id for one.

    Raises:
        TypeError: a part has another type than in COCO's files.
        ValueError: a part is missing, or its value is invalid.
    """
    lists = dict.fromkeys(["images", "categories", "annotations"], _list)
    given = _parts("annotations", annotations, lists)
    images, categories = (_numbers_of(kind, given[kind]) for kind in ("images", "categories"))
    pose = {
        "category_id": _one_of("categories", categories),
        "keypoints": _row(3 * joints, f"3 numbers for each of the {joints} sigmas"),
    }
    annotated = {"id": _integer, "image_id": _integer, **pose, "num_keypoints": _integer}
    annotated |= {"area": _number, "bbox": _row(4, "4 numbers, (x, y, w, h)")}
    predicted = {"image_id": _one_of("images", images), **pose, "score": _number}
    first = results[0] if results and isinstance(results[0], Mapping) else {}
    if first.get("bbox") is not None and np.size(first["bbox"]):
        predicted["bbox"] = annotated["bbox"]  # its area counts if the first result has a box

    people: dict[int, dict[str, Any]] = {}
    for n, one in enumerate(given["annotations"]):
        name = f"annotations[{n}]"
        found = _parts(name, one, annotated)
        if (crowd := one.get("iscrowd", 0)) not in (0, 1):
            raise ValueError(f"{name}: iscrowd must be 0 or 1, got {crowd!r}")
        found["iscrowd"] = int(crowd)
        if found["id"] in people:
            raise ValueError(
                f"{name}: id must differ from all others, got {found['id']} again: give each "
                "person an id of its own"
            )
        people[found["id"]] = found
    there = [one for one in people.values() if one["image_id"] in images]
    truth = {
        "images": [{"id": n} for n in images.values()],
        "categories": [{"id": n} for n in categories.values()],
        "annotations": [
            one | {"id": n, "image_id": images[one["image_id"]]} for n, one in enumerate(there, 1)
        ],
    }
    return truth, [_parts(f"results[{n}]", one, predicted) for n, one in enumerate(results)]


def _numbers_of(kind: str, entries: list[Any]) -> dict[int, int]:
    """Return the new number of each id; it keeps the order of ids, in which ties are sorted."""
    ids = (_parts(f"{kind}[{n}]", one, {"id": _integer})["id"] for n, one in enumerate(entries))
    return {old: new for new, old in enumerate(sorted({*ids}), 1)}


def _parts(name: str, entry: Any, parts: Mapping[str, Check]) -> dict[str, Any]:
    """Return the parts of an entry, each as returned by its check."""
    if not isinstance(entry, Mapping):
        raise TypeError(f"{name} must be a dict, got {type(entry).__name__}")
    for part in parts:
        if part not in entry:
            got = f"only {', '.join(map(str, entry))}" if entry else "an empty dict"
            raise ValueError(f"{name} must have {part!r}, got {got}")
    return {part: check(f"{name}: {part}", entry[part]) for part, check in parts.items()}


def _list(name: str, value: Any) -> list[Any]:
    if not isinstance(value, list | tuple):
        raise TypeError(f"{name} must be a list, got {type(value).__name__}")
    return [*value]


def _integer(name: str, value: Any) -> int:
    whole = isinstance(value, float) and value.is_integer()  # tables store integers as floats
    return int(value) if whole else checks.integer(name, value)


def _one_of(kind: str, numbers: Mapping[int, int]) -> Check:
    """Return a check that replaces an id by its new number."""

    def known(name: str, value: Any) -> int:
        if (old := _integer(name, value)) not in numbers:
            ids = ", ".join(map(str, [*numbers][:10])) + (", ..." if len(numbers) > 10 else "")
            raise ValueError(f"{name} must be one of annotations' {kind} ({ids}), got {value}")
        return numbers[old]

    return known


def _number(name: str, value: Any) -> float:
    return _numbers(name, value, (), "a number").item()


def _row(count: int, expected: str) -> Check:
    return lambda name, value: _numbers(name, value, (count,), expected).tolist()


def _numbers(name: str, value: Any, shape: tuple[int, ...], expected: str) -> np.ndarray:
    """Return ``value`` as finite float64 numbers of this shape."""
    array = checks.numpy_array(name, value)
    if array.dtype.kind not in "iuf":
        raise TypeError(f"{name} must be {expected}, got {value!r:.200}")
    if array.shape != shape:
        got = len(array) if array.ndim == 1 else f"shape {array.shape}"
        raise ValueError(f"{name} must be {expected}, got {got}")
    checks.require(name, array, np.isfinite, "finite")
    return array.astype(float)
