"""Affine maps of one, two and three dimensions, including homogeneous ones."""

from typing import Any

import jax
import numpy as np
import pytest

import dark_jax
from dark_jax import Keypoints
from tests.support import synthetic, tolerances
from tests.support.by_hand import keypoints_of

DIMS = (1, 2, 3)
# A nibabel affine of (i, j, k): axes are crossed, one is mirrored, voxels are 2 x 0.5 x 0.75 mm.
SCAN = np.array(
    [[0.0, 0.5, 0.0, -90.0], [0.0, 0.0, -0.75, 40.0], [2.0, 0.0, 0.0, 10.0], [0.0, 0.0, 0.0, 1.0]]
)


def affines(dim: int, *lead: int) -> np.ndarray:
    """Random affines that are far from singular."""
    noise = 0.3 * synthetic.rng(dim).standard_normal((*lead, dim, dim + 1))
    return (noise + 2 * np.eye(dim, dim + 1)).astype(np.float32)


def homogeneous(affine: np.ndarray) -> np.ndarray:
    dim = affine.shape[-2]
    last = np.broadcast_to(np.eye(dim + 1)[-1:], (*affine.shape[:-2], 1, dim + 1))
    return np.concatenate([affine, last], axis=-2).astype(affine.dtype)


@pytest.mark.parametrize("dim", DIMS)
class TestDimensions:
    def test_is_the_matrix_product(self, dim: int) -> None:
        coords = synthetic.rng(0).standard_normal((4, 3, dim)).astype(np.float32)
        push = affines(dim, 4)
        expected = np.einsum("nij,nkj->nki", push[..., :-1], coords) + push[:, None, :, -1]
        for matrices in (push, homogeneous(push)):
            found = dark_jax.apply_affine(coords, matrices)
            np.testing.assert_allclose(found, expected, atol=1e-5)
            under = jax.jit(jax.vmap(dark_jax.apply_affine))(coords, matrices)
            np.testing.assert_allclose(under, expected, atol=1e-5)

    def test_inverse_is_linalg(self, dim: int) -> None:
        push = homogeneous(affines(dim, 5))
        expected = np.linalg.inv(push.astype(float))
        for function in (dark_jax.invert_affine, jax.jit(jax.vmap(dark_jax.invert_affine))):
            np.testing.assert_allclose(function(push), expected, atol=1e-6)
            np.testing.assert_allclose(function(push[:, :-1]), expected[:, :-1], atol=1e-6)

    def test_singular_when_traced(self, dim: int) -> None:
        """A singular map inverts to infinity, except in its last row. All gradients are finite."""
        push = homogeneous(affines(dim, 2))
        push[0, :-1] = 0
        invert = jax.jit(dark_jax.invert_affine)
        found = np.asarray(invert(push))
        assert np.isinf(found[0, :-1]).all()
        np.testing.assert_array_equal(
            found[:, -1], np.broadcast_to(np.eye(dim + 1)[-1], (2, dim + 1))
        )
        gradient = jax.jit(jax.grad(lambda push: invert(push)[1].sum()))(push)
        assert np.isfinite(gradient).all()
        with pytest.raises(ValueError, match="affine must be invertible"):
            dark_jax.invert_affine(push)

    @pytest.mark.parametrize("scale", [1e-18, 1e18])
    def test_inverse_at_any_scale(self, dim: int, scale: float) -> None:
        """Float32 cannot hold the volume of a tiny voxel, but it can hold the inverse affine."""
        push = affines(dim) * np.float32(scale)
        found = np.asarray(dark_jax.invert_affine(push), float)
        expected = np.linalg.inv(homogeneous(push).astype(float))[:-1]
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)

    def test_covariance_by_numpy(self, dim: int) -> None:
        root = synthetic.rng(3).standard_normal((4, 2, dim, dim))
        spread = root @ root.swapaxes(-1, -2)
        push, coords = affines(dim, 4), np.zeros((4, 2, dim))
        before = keypoints_of(coords, np.ones((4, 2)), np.zeros((4, 2)), spread)
        linear = push[:, None, :, :-1].astype(float)
        expected = linear @ spread @ linear.swapaxes(-1, -2)
        for matrices in (push, homogeneous(push)):
            found = dark_jax.to_image(before, matrices)
            assert found.covariance is not None
            np.testing.assert_allclose(found.covariance, expected, rtol=1e-4, atol=1e-4)
            np.testing.assert_array_equal(found.coords[:, 0], push[..., -1])

    def test_inverse_gradients(self, dim: int) -> None:
        """Gradients match central differences."""
        with jax.enable_x64(True):
            push = affines(dim, 2).astype(float)
            weights, step = synthetic.rng(4).standard_normal((2, *push.shape))

            def loss(push: Any) -> jax.Array:
                return (dark_jax.invert_affine(push) * weights).sum()

            found = (np.asarray(jax.grad(loss)(push)) * step).sum()
            slope = (float(loss(push + 1e-6 * step)) - float(loss(push - 1e-6 * step))) / 2e-6
            np.testing.assert_allclose(found, slope, rtol=tolerances.GRADIENT)

    def test_nobody(self, dim: int) -> None:
        push = affines(dim)
        assert dark_jax.apply_affine(np.zeros((0, 3, dim)), push).shape == (0, 3, dim)
        assert dark_jax.invert_affine(affines(dim, 0)).shape == (0, dim, dim + 1)


class TestVolumes:
    def test_scan_by_hand(self) -> None:
        """Decoding the transposed array gives (i, j, k) = (4, 20, 8) as (x, y, z)."""
        maps = np.zeros((7, 31, 15), np.float32)
        maps[4, 20, 8] = 1
        of_scan = dark_jax.decode(maps.T, axes=(-3, -2, -1))
        of_array = dark_jax.decode(maps, axes=(-3, -2, -1))
        np.testing.assert_array_equal(of_scan.coords, [4, 20, 8])
        np.testing.assert_array_equal(of_array.coords, [8, 20, 4])
        expected = [0.5 * 20 - 90, -0.75 * 8 + 40, 2 * 4 + 10]
        for coords in (of_scan.coords, of_array.coords[..., ::-1]):
            np.testing.assert_array_equal(dark_jax.apply_affine(coords, SCAN), expected)
        back = dark_jax.apply_affine(np.array(expected), dark_jax.invert_affine(SCAN))
        np.testing.assert_allclose(back, [4, 20, 8], atol=1e-5)

    def test_covariance_by_hand(self) -> None:
        """Variances follow their axes, in mm squared. The covariance of y and z changes sign."""
        spread = np.array([[1.0, 0.0, 0.0], [0.0, 4.0, 2.0], [0.0, 2.0, 16.0]])
        found = dark_jax.to_image(keypoints_of([4.0, 20.0, 8.0], 0.5, 0, spread), SCAN)
        np.testing.assert_array_equal(found.coords, [-80, 34, 18])
        np.testing.assert_array_equal(
            found.covariance, [[1.0, -0.75, 0.0], [-0.75, 9.0, 0.0], [0.0, 0.0, 4.0]]
        )

    def test_traced_last_rows_are_not_looked_at(self) -> None:
        wrong = SCAN.copy()
        wrong[-1] = 9
        point = np.array([4.0, 20.0, 8.0])
        found = jax.jit(dark_jax.apply_affine)(point, wrong)
        np.testing.assert_array_equal(found, dark_jax.apply_affine(point, SCAN))


@jax.jit
def spaced(coords: Any, spacing: Any) -> jax.Array:
    return dark_jax.apply_affine(coords, spacing=spacing)


class TestSpacing:
    @pytest.mark.parametrize("dim", DIMS)
    def test_is_a_product(self, dim: int) -> None:
        """A spacing is one number or one for each axis, traced or not, with any leading axes."""
        coords = synthetic.rng(0).standard_normal((2, 4, dim)).astype(np.float32)
        each: tuple[Any, ...] = (0.7, np.float16(2), 3, [0.5, 3.0, 2.0][:dim])
        for spacing in each:
            expected = coords * np.asarray(spacing, np.float32)
            np.testing.assert_array_equal(dark_jax.apply_affine(coords, spacing=spacing), expected)
            traced = np.asarray(spacing)
            np.testing.assert_allclose(spaced(coords, traced), expected, rtol=1e-6)

    def test_keypoints_by_hand(self) -> None:
        """Variances scale by squares and covariances by products. Unknown ones stay infinite."""
        spread = np.array([[1.0, 2.0, 0.0], [2.0, 9.0, -1.0], [0.0, -1.0, 4.0]])
        unknown = np.diag([np.inf, 1.0, 1.0])
        points = [[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]
        before = keypoints_of(points, [0.5, 0.25], [0, 3], [spread, unknown])
        found = dark_jax.to_image(before, spacing=(0.5, 2.0, 3.0))
        np.testing.assert_array_equal(found.coords, [[0.5, 4, 9], [2, 10, 18]])
        expected = [[0.25, 2, 0], [2, 36, -6], [0, -6, 36]]
        assert found.covariance is not None
        np.testing.assert_array_equal(found.covariance[0], expected)
        assert (np.asarray(found.covariance[1]) == np.inf).all()
        np.testing.assert_array_equal(found.scores, before.scores)
        np.testing.assert_array_equal(found.status, before.status)
        none = Keypoints(
            coords=before.coords, scores=before.scores, status=before.status, covariance=None
        )
        assert dark_jax.to_image(none, spacing=0.5).covariance is None

    def test_gradient_by_hand(self) -> None:
        """The gradient of the summed result is the sum of the coordinates along each axis."""
        coords = np.array([[1.0, 2.0], [3.0, 5.0]], np.float32)
        gradient = jax.grad(lambda spacing: spaced(coords, spacing).sum())(np.ones(2, np.float32))
        np.testing.assert_array_equal(gradient, [4, 7])

    def test_under_vmap(self) -> None:
        """Each scan of a batch has its own spacing."""
        coords = synthetic.rng(1).standard_normal((2, 4, 3)).astype(np.float32)
        spacing = np.array([[1.0, 1.0, 3.0], [0.5, 0.5, 2.0]], np.float32)
        found = jax.vmap(spaced)(coords, spacing)
        np.testing.assert_allclose(found, coords * spacing[:, None], rtol=1e-6)

    def test_precision_is_that_of_the_coordinates(self) -> None:
        with jax.enable_x64(True):
            for dtype in (np.float32, np.float64):
                assert spaced(np.ones((1, 2), dtype), np.ones(2)).dtype == dtype

    @pytest.mark.parametrize(
        ("options", "match"),
        [
            ({}, "affine or spacing must be given, got neither"),
            ({"affine": SCAN, "spacing": 1.0}, "affine and spacing must not both be given"),
            ({"spacing": (1.0, 2.0)}, r"one for each axis, \(x, y, z\), got shape \(2,\)"),
            ({"spacing": np.ones((1, 3))}, r"one for each axis, \(x, y, z\), got shape \(1, 3\)"),
            ({"spacing": 0.0}, "spacing must be positive and finite, got 0"),
            ({"spacing": (1.0, -2.0, 1.0)}, "spacing must be positive and finite, got -2"),
            ({"spacing": np.nan}, "spacing must be positive and finite, got nan"),
            ({"spacing": np.inf}, "spacing must be positive and finite, got inf"),
        ],
        ids=str,
    )
    def test_errors(self, options: dict[str, Any], match: str) -> None:
        point = keypoints_of([4.0, 20.0, 8.0], 0.5, 0, np.eye(3))
        for call in (
            lambda: dark_jax.apply_affine(point.coords, **options),
            lambda: dark_jax.to_image(point, **options),
        ):
            with pytest.raises(ValueError, match=match):
                call()
