"""COCO's files as users have them: ids of any size, and files that are not COCO at all."""

import copy
from typing import Any

import numpy as np
import pytest

from dark_jax import coco
from tests.io.test_coco import IMAGES, annotations, keypoints, people, predictions

pytest.importorskip("faster_coco_eval")


def renamed(
    truth: dict[str, Any], results: list[dict[str, Any]], **renames: Any
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The same data with new ids. ``renames`` maps ids of people, images or categories."""
    truth, results = copy.deepcopy((truth, results))
    person = renames.get("people", lambda n: n)
    image, category = (renames.get(kind, lambda n: n) for kind in ("images", "categories"))
    for kind, new in (("images", image), ("categories", category)):
        for one in truth[kind]:
            one["id"] = new(one["id"])
    for one in (*truth["annotations"], *results):
        one["image_id"], one["category_id"] = image(one["image_id"]), category(one["category_id"])
    for one in truth["annotations"]:
        one["id"] = person(one["id"])
    return truth, results


@pytest.mark.parametrize(
    "renames",
    [
        {"people": lambda n: n - 1},  # from 0 on
        {"people": lambda n: -n},
        {"people": lambda n: 2**63 + n},
        {"people": lambda n: -(2**64) * n},
        {"people": float},
        {"people": np.int64},
        {"images": lambda n: n - 10},
        {"images": lambda n: n - 2**40},
        {"images": lambda n: 2**63 * n},
        {"categories": lambda n: n - 1},
        {"categories": lambda n: 2**62 + n},
    ],
)
def test_ids_are_only_names(renames: dict[str, Any]) -> None:
    truth, results = annotations(), predictions()
    expected = coco.average_precision(results, truth)
    other, found = renamed(truth, results, **renames)
    assert coco.average_precision(found, other) == expected


def pycocotools(truth: dict[str, Any], results: list[dict[str, Any]]) -> list[float]:
    """The ten statistics of pycocotools."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    theirs: Any = COCO()
    theirs.dataset = {**copy.deepcopy(truth), "info": {}}
    theirs.createIndex()
    evaluation = COCOeval(theirs, theirs.loadRes(copy.deepcopy(results)), "keypoints")
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    return list(evaluation.stats)


def test_ids_are_those_of_pycocotools() -> None:
    """These ids suit pycocotools: integers of 64 bits, and not zero for a person."""
    pytest.importorskip("pycocotools")
    truth, results = renamed(
        annotations(),
        predictions(),
        people=lambda n: -n,
        images=lambda n: n - 2**40,
        categories=lambda n: n + 2**40,
    )
    found = coco.average_precision(results, truth)
    assert list(found.values()) == pytest.approx(pycocotools(truth, results), abs=1e-12)


@pytest.mark.parametrize(
    "boxes", [[], np.array([0, 0, 40, 40]), [0.0, 0.0, 40.0, 40.0], [5.0, 5.0, 200.0, 300.0]]
)
def test_boxes_of_results_are_their_sizes(boxes: Any) -> None:
    """The box of a result gives its size. Without a box, the extent of the keypoints does."""
    pytest.importorskip("pycocotools")
    results = [{**one, "bbox": boxes} for one in predictions()]
    found = coco.average_precision(results, annotations())
    plain = [{**one, "bbox": [*boxes]} for one in results]
    assert list(found.values()) == pytest.approx(pycocotools(annotations(), plain), abs=1e-12)


def test_scores_alike_keep_their_order() -> None:
    """Results with equal scores are ranked by the image id, then by their order in the list."""
    truth, results = annotations(), predictions()
    for one in results:
        one["score"] = 0.5
    expected = coco.average_precision(results, truth)
    for images in (lambda n: n - 2**40, lambda n: 3 * n, lambda n: 2**63 + n):
        other, found = renamed(truth, results, images=images)
        assert coco.average_precision(found, other) == expected
        other["images"].reverse()
        assert coco.average_precision(found, other) == expected
    other, found = renamed(truth, results, images=lambda n: -n)
    assert coco.average_precision(found, other) != expected


def test_persons_elsewhere_do_not_count() -> None:
    """Persons on images that the file does not list are ignored, as in a part of a data set."""
    truth = annotations()
    truth["images"] = truth["images"][1:]
    results = [one for one in predictions() if one["image_id"] == 20]
    part = annotations()
    part["images"], part["annotations"] = part["images"][1:], part["annotations"][1:]
    expected = coco.average_precision(results, part)
    assert expected["AP"] > 0
    assert coco.average_precision(results, truth) == expected


@pytest.mark.parametrize(
    "truth", [annotations(), {"images": [], "categories": [], "annotations": []}]
)
def test_nobody(truth: dict[str, Any]) -> None:
    truth["annotations"] = []
    found = coco.average_precision([], truth)
    assert set(found.values()) == {-1.0}


def changed(where: str, value: Any) -> tuple[list[Any], dict[str, Any]]:
    """Results and annotations with the part at ``where`` replaced, or deleted by KeyError."""
    whole: dict[str, Any] = {"results": predictions(), **annotations()}
    at: Any = whole
    *path, last = where.split("/")
    for name in path:
        at = at[int(name) if name.isdigit() else name]
    if value is KeyError:
        del at[last]
    else:
        at[int(last) if last.isdigit() else last] = value
    results = whole.pop("results")
    return results, whole


@pytest.mark.parametrize(
    ("where", "value", "error", "message"),
    [
        ("images", None, TypeError, "annotations: images must be a list, got NoneType"),
        ("images/1", 3, TypeError, r"images\[1\] must be a dict, got int"),
        ("images/1/id", KeyError, ValueError, r"images\[1\] must have 'id', got only width, hei"),
        ("images/1/id", "20", TypeError, r"images\[1\]: id must be an integer, got '20'"),
        ("categories/0", {}, ValueError, r"categories\[0\] must have 'id', got an empty dict"),
        (
            "categories",
            [],
            ValueError,
            r"annotations\[0\]: category_id .*annotations' categories \(\), got 1",
        ),
        ("annotations/1", None, TypeError, r"annotations\[1\] must be a dict, got NoneType"),
        (
            "annotations/1/id",
            1,
            ValueError,
            r"annotations\[1\]: id must differ from all others, got 1 again",
        ),
        ("annotations/1/id", "1", TypeError, r"annotations\[1\]: id must be an integer, got '1'"),
        ("annotations/1/id", True, TypeError, r"annotations\[1\]: id must be an integer, got True"),
        (
            "annotations/1/image_id",
            1.5,
            TypeError,
            r"annotations\[1\]: image_id .* integer, got 1.5",
        ),
        (
            "annotations/1/category_id",
            7,
            ValueError,
            r"annotations\[1\]: category_id must be one of .*categories \(1\), got 7",
        ),
        ("annotations/1/category_id", [1], TypeError, r"annotations\[1\]: category_id .*got \[1\]"),
        (
            "annotations/1/area",
            np.nan,
            ValueError,
            r"annotations\[1\]: area must be finite, got nan",
        ),
        ("annotations/1/area", [5], ValueError, r"annotations\[1\]: area must be a number, got 1"),
        (
            "annotations/1/area",
            None,
            TypeError,
            r"annotations\[1\]: area must be a number, got None",
        ),
        (
            "annotations/1/bbox",
            [1, 2, 3],
            ValueError,
            r"annotations\[1\]: bbox must be 4 numbers, .*3",
        ),
        ("annotations/1/bbox", None, TypeError, r"annotations\[1\]: bbox must be 4 numbers, "),
        (
            "annotations/1/iscrowd",
            "0",
            ValueError,
            r"annotations\[1\]: iscrowd must be 0 or 1, got '0'",
        ),
        (
            "annotations/1/num_keypoints",
            None,
            TypeError,
            r"annotations\[1\]: num_keypoints must be",
        ),
        (
            "annotations/1/keypoints/3",
            np.nan,
            ValueError,
            r"annotations\[1\]: keypoints .*finite, got",
        ),
        (
            "annotations/1/keypoints/3",
            "x",
            TypeError,
            r"annotations\[1\]: keypoints must be 3 numbers",
        ),
        (
            "annotations/1/keypoints/3",
            [1],
            TypeError,
            r"annotations\[1\]: keypoints must be an array of numbers",
        ),
        (
            "annotations/1/iscrowd",
            2,
            ValueError,
            r"annotations\[1\]: iscrowd must be 0 or 1, got 2",
        ),
        ("results/1", "one", TypeError, r"results\[1\] must be a dict, got str"),
        ("results/1", [{}], TypeError, r"results\[1\] must be a dict, got list"),
        ("results/1/score", "0.5", TypeError, r"results\[1\]: score must be a number, got '0.5'"),
        ("results/1/score", np.nan, ValueError, r"results\[1\]: score must be finite, got nan"),
        (
            "results/1/score",
            KeyError,
            ValueError,
            r"results\[1\] must have 'score', got only image_id",
        ),
        (
            "results/1/category_id",
            2,
            ValueError,
            r"results\[1\]: category_id must be .*annotations' categories \(1\), got 2",
        ),
        (
            "results/1/keypoints",
            np.ones((17, 3)),
            ValueError,
            r"keypoints must be 3 .*shape \(17, 3\)",
        ),
    ],
)
def test_what_is_no_coco(where: str, value: Any, error: type[Exception], message: str) -> None:
    """A missing or wrong part is an error that states its place, and is not a KeyError."""
    with pytest.raises(error, match=message):
        coco.average_precision(*changed(where, value))


@pytest.mark.parametrize(
    ("sigmas", "error", "message"),
    [
        ([[0.1], [0.1, 0.2]], TypeError, "sigmas must be an array of numbers: "),
        (0.1, ValueError, r"sigmas must be a number for each joint, got 0\.1"),
        (None, ValueError, "sigmas must be a number for each joint, got None"),
        ({0: 0.1}, ValueError, "sigmas must be a number for each joint"),
        ([0.0] * 17, ValueError, r"sigmas must be positive and finite, got 0\.0"),
        ([np.nan] * 17, ValueError, "sigmas must be positive and finite, got nan"),
        ([0.1j] * 17, TypeError, "sigmas must hold real numbers"),
    ],
)
def test_sigmas(sigmas: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        coco.average_precision(predictions(), annotations(), sigmas=sigmas)


def test_what_may_be_missing() -> None:
    """``iscrowd`` may be missing if there is no crowd. It may be a boolean as well as 0 or 1."""
    truth = annotations()
    expected = coco.average_precision(predictions(), truth)
    for person in truth["annotations"]:
        person["iscrowd"] = bool(person["iscrowd"])
    assert coco.average_precision(predictions(), truth) == expected
    truth["annotations"] = truth["annotations"][:3]
    expected = coco.average_precision(predictions(), truth)
    for person in truth["annotations"]:
        del person["iscrowd"]
    assert coco.average_precision(predictions(), truth) == expected


def test_a_batch_without_persons() -> None:
    for shape in ((0, 17, 2), (2, 0, 17, 2), (0, 0, 2), (3, 0, 2)):
        assert coco.results(keypoints(np.ones(shape)), image_ids=1) == []
    assert coco.results(keypoints(np.ones((0, 17, 2))), image_ids=[], scores=[]) == []  # pyright: ignore[reportArgumentType]


def test_scores_of_any_number_type() -> None:
    poses, _ = people()
    for scores in (True, np.int64(1), np.float32(1)):
        (*_, last) = coco.results(keypoints(poses), image_ids=IMAGES, scores=scores)
        assert type(last["score"]) is float


def test_ids_of_any_size() -> None:
    """A list may mix ids which NumPy would convert to floats or objects."""
    poses, _ = people()
    for ids in ([2**63, -1, 2, 3], [10**20, np.int64(1), 2, 3], [2**40] * 4):
        found = coco.results(keypoints(poses), image_ids=ids)  # pyright: ignore[reportArgumentType]
        assert [one["image_id"] for one in found] == ids
    for wrong in ([1.5, 2, 3, 4], [True, 2, 3, None], "1234"):
        with pytest.raises(TypeError, match="image_ids must be integers, got dtype"):
            coco.results(keypoints(poses), image_ids=wrong)  # pyright: ignore[reportArgumentType]
