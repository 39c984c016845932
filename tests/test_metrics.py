"""Scores against values by hand, NumPy and pycocotools, with masks, batches and gradients."""

from collections.abc import Callable
from typing import Any

import jax
import jax.export
import jax.numpy as jnp
import numpy as np
import pytest

from dark_jax import metrics, skeletons
from tests.support import synthetic, tolerances

BOXES = np.array([3.0, 4.0, 30.0, 40.0], np.float32)  # a head of 0.6 x 50 = 30 px

METRICS: dict[str, Callable[..., jax.Array]] = {
    "oks": lambda c, t, **k: metrics.oks(c, t, area=900.0, sigmas=0.05, **k),
    "pck": lambda c, t, **k: metrics.pck(c, t, threshold=0.2, normalize=10.0, **k),
    "pckh": lambda c, t, **k: metrics.pckh(c, t, threshold=0.1, head_boxes=BOXES, **k),
    "auc": lambda c, t, **k: metrics.auc(c, t, thresholds=(0.0, 1.0, 2.0, 4.0), **k),
    "epe": metrics.epe,
    "nme": lambda c, t, **k: metrics.nme(c, t, normalize=4.0, **k),
}
SMOOTH = ("oks", "epe", "nme")
AVERAGED = tuple(name for name in METRICS if name != "oks")


def poses(*leading: int, joints: int = 5) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Predictions a few pixels off, the truth, and flags, of which a third are zero."""
    rng = synthetic.rng(7)
    truth = rng.uniform(0, 100, (*leading, joints, 2)).astype(np.float32)
    coords = truth + rng.normal(0, 2, truth.shape).astype(np.float32)
    return coords, truth, rng.integers(0, 3, truth.shape[:-1])


def plain(name: str, coords: np.ndarray, truth: np.ndarray, visible: np.ndarray) -> np.ndarray:
    """A metric ``[...]`` in float64, computed from its definition."""
    found = np.zeros(coords.shape[:-2])
    for index in np.ndindex(found.shape):
        seen = visible[index] > 0
        offset = coords[index][seen].astype(np.float64) - truth[index][seen]
        distance = np.sqrt((offset**2).sum(-1))
        values = {
            "oks": np.exp(-(distance**2) / (2 * 900.0 * (2 * 0.05) ** 2)),
            "pck": distance / 10.0 < 0.2,
            "pckh": distance / 30.0 <= 0.1,
            "auc": np.mean([distance < limit for limit in (0.0, 1.0, 2.0, 4.0)], axis=0),
            "epe": distance,
            "nme": distance / 4.0,
        }[name]
        found[index] = values.mean() if seen.any() else 0.0
    return found


def each_metric(coords: Any, truth: Any, visible: Any, **options: Any) -> dict[str, jax.Array]:
    return {name: METRICS[name](coords, truth, visible=visible, **options) for name in METRICS}


@jax.jit
def totals(coords: jax.Array, truth: jax.Array, visible: jax.Array) -> dict[str, Any]:
    """The sum of each metric over instances and its gradients in both arrays, in one program."""

    def summed(name: str) -> Any:
        return lambda c, t: METRICS[name](c, t, visible=visible).sum()

    return {
        name: jax.value_and_grad(summed(name), argnums=(0, 1))(coords, truth) for name in METRICS
    }


def total(name: str, *arguments: np.ndarray) -> tuple[np.ndarray, tuple[np.ndarray, np.ndarray]]:
    return jax.device_get(totals(*arguments)[name])


class TestByHand:
    def test_the_threshold_itself(self) -> None:
        """A distance equal to the threshold is too far for PCK and near enough for PCKh."""
        truth, coords = np.zeros((2, 2)), np.array([[3, 4], [3.5, 4]])
        assert float(metrics.pck(coords, truth, threshold=5.0)) == 0
        boxes = np.array([0, 0, 20, 80 / 3])
        assert float(metrics.pckh(coords, truth, threshold=0.25, head_boxes=boxes)) == 0.5

    def test_a_head_box_is_a_corner_and_its_sides(self) -> None:
        """The diagonal is 50 and the unit 30, wherever the head is in the image."""
        truth, coords = np.zeros((2, 2)), np.array([[14.9, 0], [15.1, 0]])
        for corner in ([0, 0], [300, 200], [-40, 7]):
            head = np.array([*corner, 30, 40])
            assert metrics.pckh(coords, truth, threshold=0.5, head_boxes=head) == 0.5

    def test_oks_one_width_away(self) -> None:
        """At d^2 = 2 area (2 sigma)^2, with the sigma of its own joint, a joint scores e^-1."""
        sigmas = np.array(skeletons.COCO.sigmas)
        truth = np.zeros((17, 2))
        coords = np.stack([2 * sigmas * np.sqrt(2 * 400.0), np.zeros(17)], axis=-1)
        found = metrics.oks(coords, truth, area=400.0, sigmas=skeletons.COCO.sigmas)
        assert found == pytest.approx(np.exp(-1), abs=1e-6)

    def test_mpii_total(self) -> None:
        """All visible joints of the set form one pool, without the pelvis and the thorax."""
        truth = np.zeros((2, 16, 2))
        coords = truth.copy()
        coords[:, 6:8] = 99
        coords[0, 0] = 99
        visible = np.ones((2, 16))
        visible[1, 3:6] = 0
        boxes = np.array([[0, 0, 30, 40], [10, 10, 30, 40]])
        found = metrics.pckh(
            coords,
            truth,
            head_boxes=boxes,
            threshold=0.5,
            visible=visible * np.array(skeletons.MPII.scored),
            axis=None,
        )
        assert found == pytest.approx(24 / 25)

    def test_pairs(self) -> None:
        """Three predictions are compared with two persons, each with an area of its own."""
        coords, truth, _ = poses(3)
        area = np.array([1e5, 9e5], np.float32)
        found = metrics.oks(coords[:, None], truth[:2], area=area, sigmas=0.1)
        assert found.shape == (3, 2)
        offsets = coords[:, None].astype(np.float64) - truth[:2]
        width = 2 * area[:, None] * (2 * 0.1) ** 2
        expected = np.exp(-(offsets**2).sum(-1) / width).mean(-1)
        np.testing.assert_allclose(found, expected, rtol=1e-6)


one_by_one = jax.jit(jax.vmap(jax.vmap(each_metric)))


@pytest.mark.parametrize("name", METRICS)
class TestEach:
    def test_is_the_definition(self, name: str) -> None:
        coords, truth, visible = poses(2, 3)
        visible[0, 1] = 0
        found = np.asarray(METRICS[name](coords, truth, visible=visible))
        assert found.shape == (2, 3)
        assert found.dtype == jnp.float32
        np.testing.assert_allclose(found, plain(name, coords, truth, visible), rtol=3e-6, atol=1e-7)
        assert found[0, 1] == 0

    def test_precision_is_the_input_s(self, name: str) -> None:
        coords, truth, visible = poses(2, 3)
        with jax.enable_x64(True):
            fine = jax.jit(each_metric)(coords.astype(np.float64), truth, visible)[name]
            assert fine.dtype == jnp.float64
            np.testing.assert_allclose(fine, plain(name, coords, truth, visible), rtol=1e-13)

    def test_one_result_whichever_way(self, name: str) -> None:
        arguments = poses(2, 3)
        one = one_by_one(*arguments)[name]
        expected = METRICS[name](*arguments[:2], visible=arguments[2])
        np.testing.assert_allclose(one, expected, rtol=tolerances.COMPILED, atol=1e-7)

    def test_joints_are_alike(self, name: str) -> None:
        coords, truth, visible = poses(2, 3)
        order = synthetic.rng(1).permutation(5)
        np.testing.assert_allclose(
            METRICS[name](coords[..., order, :], truth[..., order, :], visible=visible[..., order]),
            METRICS[name](coords, truth, visible=visible),
            rtol=1e-5,
        )

    def test_what_is_not_visible_has_no_part(self, name: str) -> None:
        """Invisible joints and those of unknown truth change neither value nor gradient."""
        coords, truth, visible = poses(2, 3)
        visible[..., 0] = 1
        expected = METRICS[name](coords, truth, visible=visible)
        spoilt = [coords.copy(), truth.copy()]
        for each, value in zip(spoilt, (np.nan, np.inf), strict=True):
            each[visible == 0] = value
        for seen in (visible, np.ones_like(visible)):
            np.testing.assert_array_equal(METRICS[name](*spoilt, visible=seen), expected)
            _, gradients = total(name, *spoilt, seen)
            for gradient in gradients:
                assert np.isfinite(gradient).all()
                assert not gradient[visible == 0].any()

    def test_nothing_visible_is_zero(self, name: str) -> None:
        coords, truth, visible = poses(2, 3)
        found, gradients = total(name, coords, truth, 0 * visible)
        assert found == 0
        assert not np.asarray(gradients).any()

    @pytest.mark.parametrize("scale", [0.0, 1e-30, 1e30, 3e38])
    def test_finite_input_is_never_nan(self, name: str, scale: float) -> None:
        """The squares of the offsets vanish or overflow, or the offsets themselves overflow."""
        coords = np.array([[scale, 0], [scale, -scale], [0, scale], [0, 0], [1, 1]], np.float32)
        truth = np.array([[0, 0], [0, 0], [0, -scale], [0, 0], [1, 1]], np.float32)
        shape = (2, 3, 5, 2)
        poses = np.broadcast_to(coords, shape), np.broadcast_to(truth, shape)
        found, gradients = total(name, *poses, np.ones(shape[:-1], int))
        assert not np.isnan(found)
        assert np.isfinite(gradients).all()
        # The gradient is zero where the prediction is the truth.
        assert not np.asarray(gradients)[..., 3:, :].any()

    def test_errors_name_the_argument(self, name: str) -> None:
        metric, pose = METRICS[name], np.zeros((4, 5, 2), np.float32)
        dim = "2" if name == "pckh" else "dim"
        for message, arguments in {
            rf"coords must have shape \[..., J, {dim}\].*, got \(2,\)": (pose[0, 0], pose),
            rf"truth must have shape \[..., J, {dim}\].*, got \(4, 5, 4\)": (
                pose,
                np.zeros((4, 5, 4)),
            ),
            "truth must have the joints of coords": (pose, pose[:, :1]),
            "and leading axes that broadcast with theirs, got": (pose, pose[:3]),
        }.items():
            with pytest.raises(ValueError, match=message):
                metric(*arguments)
        with pytest.raises(ValueError, match=r"visible must broadcast to \(4, 5\), got shape"):
            metric(pose, pose, visible=np.ones(4))
        with pytest.raises(TypeError, match="coords must hold real numbers"):
            metric(pose * 1j, pose)


def test_each_lowers_for_accelerators() -> None:
    """Each metric and its gradient need neither a callback nor a custom call."""
    exported = jax.export.export(totals, platforms=["cpu", "cuda", "tpu"])(*poses(2, 3))
    assert "custom_call" not in exported.mlir_module()


@pytest.mark.parametrize("name", SMOOTH)
def test_gradients_by_central_differences(name: str) -> None:
    coords, truth, visible = poses(2, 3)
    direction = synthetic.rng(3).standard_normal(coords.shape).astype(np.float32)
    _, (gradient, opposite) = total(name, coords, truth, visible)
    ahead, behind = (
        plain(name, coords + step * direction.astype(np.float64), truth, visible).sum()
        for step in (1e-6, -1e-6)
    )
    found = (np.asarray(gradient, np.float64) * direction).sum()
    np.testing.assert_allclose(found, (ahead - behind) / 2e-6, rtol=tolerances.GRADIENT)
    np.testing.assert_array_equal(opposite, -gradient)


def test_gradients_of_the_units() -> None:
    """Gradients in an area and a length are finite for any value. Half of the poses are exact."""
    coords, truth, _ = poses(2, 4)
    coords[0] = truth[0]
    units = np.array([0.0, 1e-30, 1.0, 1e30], np.float32)
    of_area = jax.value_and_grad(
        lambda unit: metrics.oks(coords, truth, area=unit, sigmas=1e-3).sum()
    )
    of_length = jax.value_and_grad(lambda unit: metrics.nme(coords, truth, normalize=unit).sum())
    for found, gradient in jax.jit(lambda units: (of_area(units), of_length(units)))(units):
        assert np.isfinite(found)
        assert np.isfinite(gradient).all()


POOLS = ((-1, 1), 0, (0, 2))


@jax.jit
def pools(coords: jax.Array, truth: jax.Array, visible: jax.Array) -> dict[Any, jax.Array]:
    """Each metric over all joints, and the NME over other axes, in one program."""

    def pooled(name: str, axis: Any) -> jax.Array:
        return METRICS[name](coords, truth, visible=visible, axis=axis)

    every = {name: pooled(name, None) for name in AVERAGED}
    return every | {f"nme {axis}": pooled("nme", axis) for axis in POOLS}


@pytest.mark.parametrize("name", AVERAGED)
def test_axis(name: str) -> None:
    """The joints along any axes form one pool."""
    coords, truth, visible = poses(2, 3)
    pooled = pools(coords, truth, visible)
    every = [each.reshape(30, *each.shape[3:]) for each in (coords, truth, visible)]
    np.testing.assert_allclose(pooled[name], plain(name, *every), rtol=3e-6)
    if name == "nme":
        for axis, order in zip(POOLS, ((0, 1, 2), (1, 2, 0), (1, 0, 2)), strict=True):
            left = 3 - len(np.atleast_1d(axis))
            moved = [
                each.transpose(*order, *range(3, each.ndim)) for each in (coords, truth, visible)
            ]
            moved = [each.reshape(*each.shape[:left], -1, *each.shape[3:]) for each in moved]
            np.testing.assert_allclose(pooled[f"nme {axis}"], plain(name, *moved), rtol=3e-6)
    for axis in (3, (0, 0), (0, -3), ()):
        with pytest.raises(ValueError, match="axis must be None, an axis from -3 to 2 or"):
            METRICS[name](coords, truth, axis=axis)
    with pytest.raises(TypeError, match=r"axis must be None, an axis .*, got 1\.5"):
        METRICS[name](coords, truth, axis=1.5)


def test_predictions_that_are_not_finite() -> None:
    """A score counts such a prediction as wrong, and an error is not finite."""
    truth = np.zeros((2, 2))
    for value in (np.nan, np.inf):
        coords = np.array([[0, 0], [0, value]])
        for name in ("oks", "pck", "pckh"):
            assert float(METRICS[name](coords, truth)) == 0.5
        np.testing.assert_equal(np.asarray(metrics.epe(coords, truth)), np.float32(value))


def test_small_floats_and_integers_are_computed_in_float32() -> None:
    coords, truth = np.array([[3, 4]], jnp.bfloat16), np.zeros((1, 2), np.int8)
    found = metrics.nme(coords, truth, normalize=np.float16(2), visible=np.ones(1, np.uint8))
    assert (found.dtype, float(found)) == (jnp.float32, 2.5)


def test_errors_of_single_arguments() -> None:
    pose = np.zeros((4, 5, 2), np.float32)
    for message, call in {
        r"area must broadcast to \(4,\), got": lambda: metrics.oks(
            pose, pose, area=np.ones(2), sigmas=0.1
        ),
        r"sigmas must broadcast to \(5,\), got": lambda: metrics.oks(
            pose, pose, area=1.0, sigmas=skeletons.COCO.sigmas
        ),
        "sigmas must be positive and finite, got 0": lambda: metrics.oks(
            pose, pose, area=1.0, sigmas=0.0
        ),
        "threshold must be a number, got nan": lambda: metrics.pck(pose, pose, threshold=np.nan),
        r"threshold must broadcast to \(\), got": lambda: metrics.pck(
            pose, pose, threshold=np.ones(1)
        ),
        r"normalize must broadcast to \(4,\), got": lambda: metrics.nme(
            pose, pose, normalize=np.ones(2)
        ),
        r"head_boxes must have shape \[..., 4\], got \(4, 2\)": lambda: metrics.pckh(
            pose, pose, threshold=0.5, head_boxes=np.ones((4, 2))
        ),
        r"head_boxes must broadcast to \(4, 4\), got": lambda: metrics.pckh(
            pose, pose, threshold=0.5, head_boxes=np.ones((3, 4))
        ),
        "thresholds must be a list of at least one number, got": lambda: metrics.auc(
            pose, pose, thresholds=()
        ),
    }.items():
        with pytest.raises(ValueError, match=message):
            call()


def test_oks_is_pycocotools() -> None:
    """Joints are visible, occluded or unlabelled, areas start at 0, and pairs are near and far."""
    cocoeval = pytest.importorskip("pycocotools.cocoeval")
    assert pytest.approx(cocoeval.Params("keypoints").kpt_oks_sigmas) == skeletons.COCO.sigmas
    rng = synthetic.rng(11)
    truth = rng.uniform(0, 600, (6, 17, 2)).astype(np.float32)
    visible = rng.integers(0, 3, (6, 17))
    visible[:, 0] = 2
    area = np.array([0, 1, 40, 900, 2e4, 1e6], np.float32)
    coords = truth + rng.normal(0, 1, (6, 17, 2)) * np.sqrt(area)[:, None, None] / 8
    coords = coords.astype(np.float32)

    def rows(points: np.ndarray, flags: np.ndarray) -> list[list[float]]:
        return np.dstack([points, flags[..., None]]).reshape(len(points), -1).tolist()

    theirs = cocoeval.COCOeval(iouType="keypoints")
    theirs._gts[1, 1] = [
        {"keypoints": k, "area": float(a), "bbox": [0, 0, 1, 1]}
        for k, a in zip(rows(truth, visible), area, strict=True)
    ]
    theirs._dts[1, 1] = [
        {"keypoints": k, "score": -n} for n, k in enumerate(rows(coords, np.ones((6, 17))))
    ]
    expected = theirs.computeOks(1, 1)
    found = metrics.oks(
        coords[:, None], truth, area=area, sigmas=skeletons.COCO.sigmas, visible=visible
    )
    assert ((expected > 0.1) & (expected < 0.9)).sum() >= 4
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6)
