"""COCO results and their average precision, by hand and as pycocotools computes it."""

import copy
import json
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

import dark_jax
from dark_jax import Keypoints, Status, coco, metrics, skeletons
from tests.support import synthetic
from tests.support.by_hand import keypoints_of

STATISTICS = ["AP", "AP50", "AP75", "APm", "APl", "AR", "AR50", "AR75", "ARm", "ARl"]

IMAGES = (10, 20, 20, 20)


def people() -> tuple[np.ndarray, np.ndarray]:
    """Poses ``[4, 17, 2]`` of four persons and their flags, on the images of ``IMAGES``."""
    rng = synthetic.rng(5)
    corner = np.array([[40, 30], [50, 60], [300, 80], [200, 250]])
    size = np.array([[160, 300], [70, 90], [120, 220], [60, 80]])
    poses = corner[:, None] + rng.uniform(0, 1, (4, 17, 2)) * size[:, None]
    flags = rng.integers(1, 3, (4, 17))
    flags[1, 3:] = 0  # only three joints are seen
    return np.round(poses, 1).astype(np.float32), flags


def annotations() -> dict[str, Any]:
    """A large and a medium person, one seen in part, and a crowd."""
    poses, flags = people()
    area = (30000.0, 4000.0, 16000.0, 3000.0)
    return {
        "images": [
            {"id": 10, "width": 640, "height": 480},
            {"id": 20, "width": 640, "height": 480},
        ],
        "categories": [{"id": 1, "name": "person"}],
        "annotations": [
            {
                "id": n + 1,
                "image_id": IMAGES[n],
                "category_id": 1,
                "iscrowd": int(n == 3),
                "num_keypoints": int((flags[n] > 0).sum()),
                "area": area[n],
                "bbox": [*poses[n].min(0).tolist(), *np.ptp(poses[n], axis=0).tolist()],
                "keypoints": np.dstack([poses[n : n + 1], flags[n : n + 1, :, None]])
                .ravel()
                .tolist(),
            }
            for n in range(4)
        ],
    }


def keypoints(coords: np.ndarray, *, status: Any = 0, scores: Any = 1.0) -> Keypoints:
    joints = coords.shape[:-1]
    scores, status = (np.broadcast_to(values, joints) for values in (scores, status))
    dim = coords.shape[-1]
    return keypoints_of(coords, scores, status, np.full((*joints, dim, dim), np.inf))


class TestResults:
    def test_by_hand(self) -> None:
        coords = np.array([[[1.5, 2.25], [0.1, 7.0]], [[3.0, 4.0], [5.0, 6.0]]])
        pose = keypoints(coords, scores=[[0.5, 0.1], [1.0, 0.0]])
        found = coco.results(pose, image_ids=[7, 8])
        assert found == [
            {
                "image_id": 7,
                "category_id": 1,
                "keypoints": [1.5, 2.25, 0.5, 0.1, 7.0, 0.1],
                "score": pytest.approx(0.3),
            },
            {
                "image_id": 8,
                "category_id": 1,
                "keypoints": [3.0, 4.0, 1.0, 5.0, 6.0, 0.0],
                "score": 0.5,
            },
        ]

    def test_missing_joints_are_zeros(self) -> None:
        """A missing joint is three zeros and counts in the score. A border joint is kept."""
        status = [Status.NO_PEAK, Status.NOT_FINITE, Status.BORDER, Status.REFINED]
        coords = np.full((1, 4, 2), 9.0)
        coords[0, 1] = np.nan
        (person,) = coco.results(keypoints(coords, status=status), image_ids=1)
        assert person["keypoints"] == [0, 0, 0, 0, 0, 0, 9, 9, 1, 9, 9, 1]
        assert person["score"] == 0.5

    def test_who_has_no_joint_is_no_person(self) -> None:
        status = np.array([[2, 2], [2, 0], [1, 2]])
        found = coco.results(keypoints(np.ones((3, 2, 2)), status=status), image_ids=[4, 5, 6])
        assert [person["image_id"] for person in found] == [5]

    def test_instances_of_an_image(self) -> None:
        found = coco.results(
            keypoints(np.ones((2, 3, 17, 2))),
            image_ids=np.array([[2**40], [5]]),
            scores=[0.1, 0.2, 0.3],
            category_id=3,
        )
        assert [(person["image_id"], person["score"]) for person in found] == [
            (image, score) for image in (2**40, 5) for score in (0.1, 0.2, 0.3)
        ]
        assert found[0]["category_id"] == 3
        assert len(found[0]["keypoints"]) == 51
        json.dumps(found)

    def test_bad_input(self) -> None:
        pose = keypoints(np.ones((2, 3, 2)))
        for message, arguments in {
            r"image_ids must broadcast to \(2,\), got shape \(3,\)": {"image_ids": [1, 2, 3]},
            r"scores must broadcast to \(2,\), got": {"image_ids": 1, "scores": [1.0] * 3},
            "scores must be finite, got nan": {"image_ids": 1, "scores": np.nan},
        }.items():
            with pytest.raises(ValueError, match=message):
                coco.results(pose, **arguments)
        with pytest.raises(TypeError, match="image_ids must be integers, got dtype float64"):
            coco.results(pose, image_ids=1.5)
        with pytest.raises(TypeError, match="category_id must be an integer, got 'person'"):
            coco.results(pose, image_ids=1, category_id="person")  # pyright: ignore[reportArgumentType]
        with pytest.raises(TypeError, match=r"keypoints must be dark_jax\.Keypoints, got ndarray"):
            coco.results(np.ones((2, 3, 2)), image_ids=1)  # pyright: ignore[reportArgumentType]
        with pytest.raises(ValueError, match=r"keypoints\.coords must have shape \[\.\.\., J, 2\]"):
            coco.results(keypoints(np.ones((2, 3, 1))), image_ids=1)


def predictions() -> list[dict[str, Any]]:
    """Noisy poses of the four persons, one of them in part, and one person who is not there."""
    poses, _ = people()
    noise = synthetic.rng(9).normal(0, 1, poses.shape)
    found = poses + noise * np.array([12, 3, 6, 8])[:, None, None]
    found = np.concatenate([found, found[:1] + 200])
    status = np.zeros((5, 17), np.int8)
    status[2, 5:8] = Status.NO_PEAK
    scores = np.array([0.6, 0.9, 0.7, 0.5, 0.65], np.float32)
    return coco.results(keypoints(found, status=status), image_ids=[*IMAGES, 20], scores=scores)


class TestAveragePrecision:
    @pytest.fixture(autouse=True)
    def _library(self) -> None:
        pytest.importorskip("faster_coco_eval")

    def test_by_hand(self) -> None:
        """The truth scores 1 everywhere. A wrong pose with a higher score halves the precision."""
        poses, _ = people()
        best = coco.results(keypoints(poses), image_ids=IMAGES)
        assert coco.average_precision(best, annotations()) == dict.fromkeys(
            STATISTICS, pytest.approx(1.0)
        )
        one = annotations()
        one["annotations"] = one["annotations"][:1]
        both = coco.results(
            keypoints(poses[[0, 0]] + np.array([[[0]], [[300]]], np.float32)),
            image_ids=10,
            scores=[0.5, 0.9],
        )
        found = coco.average_precision(both, one)
        assert (found["AP"], found["AR"], found["APl"]) == (0.5, 1, pytest.approx(0.5))
        assert found["APm"] == -1

    def test_is_the_oks_over_thresholds(self) -> None:
        """For one person, the share of the thresholds 0.5, 0.55 ... 0.95 that the OKS reaches."""
        poses, flags = people()
        truth = annotations()
        truth["annotations"] = truth["annotations"][:1]
        for offset in (4.0, 9.0, 16.0, 40.0):
            coords = poses[:1] + np.float32(offset)
            similarity = metrics.oks(
                coords[0], poses[0], area=30000.0, sigmas=skeletons.COCO.sigmas, visible=flags[0]
            )
            expected = np.mean(float(similarity) >= np.linspace(0.5, 0.95, 10))
            found = coco.average_precision(coco.results(keypoints(coords), image_ids=10), truth)
            assert found["AP"] == pytest.approx(expected)

    def test_is_pycocotools(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        """The statistics agree, also for a crowd and for files.

        ``average_precision`` does not print, and does not change its arguments.
        """
        pytest.importorskip("pycocotools")
        from pycocotools.coco import COCO
        from pycocotools.cocoeval import COCOeval

        truth, predicted = annotations(), predictions()
        before = copy.deepcopy((truth, predicted))
        found = coco.average_precision(predicted, truth)
        assert capsys.readouterr() == ("", "")
        assert (truth, predicted) == before

        (tmp_path / "truth.json").write_text(json.dumps(truth))
        coco.save(predicted, tmp_path / "results.json")
        theirs = COCO(tmp_path / "truth.json")
        evaluation = COCOeval(theirs, theirs.loadRes(str(tmp_path / "results.json")), "keypoints")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
        assert list(found) == STATISTICS
        assert 0.2 < found["AP"] < 0.9
        assert len({round(value, 3) for value in found.values()}) >= 5
        np.testing.assert_allclose(list(found.values()), evaluation.stats, rtol=0, atol=1e-12)
        assert coco.average_precision(tmp_path / "results.json", tmp_path / "truth.json") == found

    def test_other_joints(self) -> None:
        """Any skeleton works if its sigmas are given."""
        truth = annotations()
        for person in truth["annotations"]:
            person["keypoints"] = person["keypoints"][:6]
        poses, _ = people()
        found = coco.results(keypoints(poses[:, :2]), image_ids=IMAGES)
        assert coco.average_precision(found, truth, sigmas=[0.05, 0.05])["AP"] == pytest.approx(1)

    def test_nobody_is_found(self) -> None:
        assert coco.average_precision([], annotations())["AP"] == 0

    def test_bad_input(self, tmp_path: Path) -> None:
        truth, predicted = annotations(), predictions()

        unnamed, uncounted = annotations(), annotations()
        del unnamed["categories"], uncounted["annotations"][2]["num_keypoints"]
        (tmp_path / "cut.json").write_text("[{")
        for message, arguments in {
            "annotations must have 'categories', got only images, annotations": (
                predicted,
                unnamed,
            ),
            r"annotations\[2\] must have 'num_keypoints', got only": (predicted, uncounted),
            r"results\[0\] must have 'image_id', got only keypoints": ([{"keypoints": []}], truth),
            r"results\[0\]: image_id must be one of annotations' images \(10, 20\), got 7": (
                [{**predicted[0], "image_id": 7}],
                truth,
            ),
            r"results\[0\]: keypoints must be 3 numbers for each of the 17 sigmas, got 6": (
                [{**predicted[0], "keypoints": [0] * 6}],
                truth,
            ),
            r"results in .*cut\.json: not readable as JSON": (tmp_path / "cut.json", truth),
        }.items():
            with pytest.raises(ValueError, match=message):
                coco.average_precision(*arguments)
        with pytest.raises(
            ValueError, match=r"annotations\[0\]: keypoints must be 3 numbers for each"
        ):
            coco.average_precision(predicted, truth, sigmas=[0.1, 0.1])
        with pytest.raises(TypeError, match="annotations must be a dict or a path, got list"):
            coco.average_precision(predicted, [truth])  # pyright: ignore[reportArgumentType]
        with pytest.raises(OSError, match="none"):
            coco.average_precision(tmp_path / "none.json", truth)


def test_from_maps_to_average_precision() -> None:
    """Poses are drawn on maps, decoded, scaled to the image and scored."""
    pytest.importorskip("faster_coco_eval")
    poses, _ = people()
    whole = np.array([[4.0, 0, 0], [0, 4.0, 0]], np.float32)

    @jax.jit
    def found(points: jax.Array) -> Keypoints:
        maps = dark_jax.encode(points, size=(120, 160), sigma=2.0)
        return dark_jax.to_image(dark_jax.decode(maps), whole)

    scored = coco.average_precision(coco.results(found(poses / 4), image_ids=IMAGES), annotations())
    assert scored["AP"] == pytest.approx(1)


def test_files_are_whole_or_not_written(tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    path.write_text("precious")
    with pytest.raises(ValueError, match=r"results\[0\]\['score'\] must be a finite number"):
        coco.save([{"score": float("nan")}], path)
    assert path.read_text() == "precious"
    with pytest.raises(ValueError, match=r"path must end in \.json, got"):
        coco.save([], tmp_path / "results.csv")
    assert [each.name for each in tmp_path.iterdir()] == ["results.json"]
