"""Affine maps, and keypoints pushed through them: inverses, covariances, transforms."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import dark_jax
from dark_jax import Keypoints, Status, conventions
from dark_jax._geometry import boxes
from tests.support import synthetic, tolerances
from tests.support.by_hand import keypoints_of
from tests.support.convention_cases import BOXES, POINTS, SIZE, affine, each_convention


def keypoints(count: tuple[int, ...]) -> Keypoints:
    """Keypoints as a fit returns them. The first is not refined, so its covariance is unknown."""
    generator = synthetic.rng(4)
    root = 0.1 * generator.standard_normal((*count, 2, 2))
    covariance = root @ root.swapaxes(-1, -2) + 0.01 * np.eye(2)
    status = np.zeros(count, np.int8)
    covariance[(0,) * len(count)], status[(0,) * len(count)] = np.inf, Status.NO_PEAK
    coords = synthetic.centres(3, int(np.prod(count)), SIZE, margin=6.0).reshape(*count, 2)
    return keypoints_of(coords, generator.random(count), status, covariance)


class TestAffines:
    @each_convention
    def test_inverse(self, convention: conventions.Convention) -> None:
        push = affine(convention, rotation=np.linspace(-180, 180, 5))
        points = np.broadcast_to(POINTS, (5, *POINTS.shape))
        there = dark_jax.apply_affine(points, push)
        back = dark_jax.apply_affine(there, dark_jax.invert_affine(push))
        # The tiny box magnifies image pixels eight times.
        np.testing.assert_allclose(back, points, atol=2e-3)
        twice = dark_jax.invert_affine(dark_jax.invert_affine(push))
        np.testing.assert_allclose(twice, push, rtol=1e-5, atol=1e-3)

    @pytest.mark.parametrize("dtype", [np.uint8, np.float16])
    def test_inverse_of_what_the_type_could_not_multiply(self, dtype: type) -> None:
        """16 times 16 is 256, which is zero in a byte."""
        push = np.array([[16, 0, 4], [0, 16, 8]]).astype(dtype)
        expected = [[1 / 16, 0, -1 / 4], [0, 1 / 16, -1 / 2]]
        np.testing.assert_array_equal(dark_jax.invert_affine(push), expected)

    def test_infinite_stays_what_it_is(self) -> None:
        """Infinite affines raise no error and no warning: only singular ones are refused."""
        push = np.array([[[np.inf, 0.0, 0.0], [0.0, np.inf, 0.0]], [[2, 0, 0], [0, 2, 0]]])
        found = np.asarray(dark_jax.invert_affine(push))
        np.testing.assert_array_equal(found[1], [[0.5, 0, 0], [0, 0.5, 0]])

    def test_leading_axes(self) -> None:
        """An affine applies to all coordinates that share its leading axes."""
        coords = synthetic.rng(0).standard_normal((2, 3, 4, 2)).astype(np.float32)
        leads = ((), (2,), (1,), (2, 3), (2, 1), (2, 3, 4))
        each = [
            synthetic.rng(1).standard_normal((*lead, 2, 3)).astype(np.float32) for lead in leads
        ]
        pushed = jax.jit(lambda *each: [dark_jax.apply_affine(coords, push) for push in each])
        for lead, matrices, found in zip(leads, each, pushed(*each), strict=True):
            whole = np.broadcast_to(
                matrices.reshape(*lead, *(1,) * (3 - len(lead)), 2, 3), (2, 3, 4, 2, 3)
            )
            expected = np.einsum("...ij,...j->...i", whole[..., :2], coords) + whole[..., 2]
            np.testing.assert_allclose(found, expected, atol=1e-5)


class TestToImage:
    def test_covariance_by_hand(self) -> None:
        """A scaled quarter turn swaps the variances of x and y and negates their covariance."""
        found = dark_jax.to_image(
            keypoints_of([3.0, 5.0], 0.5, 0, [[4.0, 1.0], [1.0, 9.0]]),
            np.array([[0.0, -2.0, 100.0], [2.0, 0.0, 10.0]]),
        )
        np.testing.assert_array_equal(found.coords, [90.0, 16.0])
        np.testing.assert_array_equal(found.covariance, [[36.0, -4.0], [-4.0, 16.0]])

    def test_covers_what_it_covered(self) -> None:
        """Mahalanobis distances are the same in heatmap pixels and in image pixels."""
        before = keypoints((5, 4))
        push = affine(conventions.UDP, rotation=np.linspace(0, 300, 5))
        after = dark_jax.to_image(before, push)
        step = 0.1 * synthetic.rng(5).standard_normal((5, 4, 2))
        moved = np.asarray(dark_jax.apply_affine(np.asarray(before.coords) + step, push))
        known = np.asarray(before.status) == Status.REFINED

        def distances(differences: np.ndarray, covariance: jax.Array) -> np.ndarray:
            solved = np.linalg.solve(np.asarray(covariance)[known], differences[known][..., None])
            return (differences[known] * solved[..., 0]).sum(-1)

        assert after.covariance is not None
        assert before.covariance is not None
        np.testing.assert_allclose(
            distances(moved - np.asarray(after.coords), after.covariance),
            distances(step, before.covariance),
            rtol=1e-2,  # float32 coordinates are near 300
        )
        np.testing.assert_array_equal(after.scores, before.scores)
        np.testing.assert_array_equal(after.status, before.status)

    @pytest.mark.parametrize("degrees", [0.0, 45.0, 90.0, 123.0])
    def test_the_unknown_stays_infinite(self, degrees: float) -> None:
        """It is never NaN, as infinity minus infinity or zero times infinity would be."""
        before = keypoints((5, 4))
        covariance = np.array(before.covariance)
        covariance[1], covariance[2, 3] = np.inf, np.diag([np.inf, 1.0])
        before = keypoints_of(before.coords, before.scores, before.status, covariance)
        push = affine(conventions.MMPOSE, rotation=degrees)
        found = np.asarray(dark_jax.to_image(before, push).covariance)
        infinite = np.isinf(covariance).any((-2, -1))
        assert infinite.sum() == 6
        assert (found[infinite] == np.inf).all()
        assert np.isfinite(found[~infinite]).all()

    def test_no_covariance_stays_none(self) -> None:
        """A decoder returns no covariance unless asked, and ``to_image`` does not make one up."""
        coords, push = jnp.ones((5, 4, 2)), affine(conventions.UDP)
        found = Keypoints(coords=coords, scores=coords[..., 0], status=jnp.zeros((5, 4), jnp.int8))
        function = dark_jax.to_image
        for to_image in (function, jax.jit(function), jax.vmap(function)):
            after = to_image(found, push)
            assert after.covariance is None
            np.testing.assert_allclose(after.coords, dark_jax.apply_affine(coords, push))

    def test_gradients_beside_the_unknown(self) -> None:
        def total(found: Keypoints, push: jax.Array) -> jax.Array:
            pushed = dark_jax.to_image(found, push)
            assert pushed.covariance is not None
            known = jnp.isfinite(pushed.covariance)
            return pushed.coords.sum() + jnp.where(known, pushed.covariance, 0).sum()

        found, push = keypoints((5, 4)), affine(conventions.MMPOSE, rotation=45.0)
        gradients = jax.jit(jax.grad(total, argnums=(0, 1), allow_int=True))(found, push)
        floats = [g for g in jax.tree.leaves(gradients) if g.dtype == jnp.float32]
        assert len(floats) == 4
        for gradient in floats:
            assert np.isfinite(gradient).all()


class TestTransforms:
    @staticmethod
    def mapped(coords: Any, boxes: Any, padding: Any, rotation: Any) -> jax.Array:
        push = affine(conventions.DARKPOSE, boxes, padding=padding, rotation=rotation)
        return dark_jax.apply_affine(coords, push)

    def arguments(self, dtype: Any = np.float32) -> tuple[np.ndarray, ...]:
        coords = np.broadcast_to(POINTS, (5, *POINTS.shape))
        numbers = coords, BOXES, np.linspace(0.8, 1.6, 5), np.linspace(-40, 100, 5)
        return tuple(number.astype(dtype) for number in numbers)

    def test_eager_jit_vmap(self) -> None:
        arguments = self.arguments()
        expected = self.mapped(*arguments)
        for function in (jax.jit(self.mapped), jax.vmap(self.mapped)):
            np.testing.assert_allclose(function(*arguments), expected, rtol=0, atol=5e-4)
        with jax.disable_jit():
            np.testing.assert_allclose(self.mapped(*arguments), expected, rtol=0, atol=5e-4)

    def test_keypoints_under_vmap(self) -> None:
        found, push = keypoints((5, 4)), affine(conventions.UDP, rotation=30.0)
        expected = dark_jax.to_image(found, push)
        under = jax.jit(jax.vmap(dark_jax.to_image))(found, push)
        for a, b in zip(jax.tree.leaves(under), jax.tree.leaves(expected), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-5)

    def test_gradients(self) -> None:
        """Gradients with respect to all four arguments match central differences."""
        with jax.enable_x64(True):
            arguments = self.arguments(np.float64)
            weights = synthetic.rng(6).standard_normal((5, 5, 2))

            def loss(*values: jax.Array) -> jax.Array:
                return (self.mapped(*values) * weights).sum()

            with_gradients = jax.jit(jax.value_and_grad(loss, argnums=(0, 1, 2, 3)))
            _, gradients = with_gradients(*arguments)
            for n, gradient in enumerate(map(np.asarray, gradients)):
                direction = synthetic.rng(7 + n).standard_normal(gradient.shape)
                step = 1e-5 * direction
                ahead, behind = list(arguments), list(arguments)
                ahead[n], behind[n] = arguments[n] + step, arguments[n] - step
                slope = (float(with_gradients(*ahead)[0]) - with_gradients(*behind)[0]) / 2e-5
                found = (gradient * direction).sum()
                np.testing.assert_allclose(found, slope, rtol=tolerances.GRADIENT)

    def test_one_compilation_a_shape(self) -> None:
        """The program takes conventions, sizes, padding and rotation as numbers."""
        core: Any = boxes._box_to_affine
        given, before = np.tile(BOXES, (2, 1)), core._cache_size()
        sizes: tuple[Any, ...] = ((64, 48), [32, 32], np.array([31, 29]))
        for n, size in enumerate(sizes):
            for convention in (conventions.UDP, conventions.MMPOSE, conventions.HALF_PIXEL):
                dark_jax.box_to_affine(
                    given + n,
                    map_size=size,
                    convention=convention,
                    padding=1.0 + n,
                    rotation=9.0 * n,
                )
        assert core._cache_size() == before + 1


PUSH = np.ones((2, 3))
ONE = Keypoints(
    coords=jnp.zeros((3, 2)),
    scores=jnp.zeros(3),
    status=jnp.zeros(3, jnp.int8),
    covariance=jnp.ones((3, 2, 2)),
)
DEPTH = ONE.replace(  # pyright: ignore[reportAttributeAccessIssue]
    coords=jnp.zeros((3, 3)), covariance=jnp.ones((3, 3, 3))
)


@pytest.mark.parametrize(
    ("call", "error", "match"),
    [
        (lambda: dark_jax.invert_affine(np.ones((2, 4))), ValueError, "affine must have shape"),
        (lambda: dark_jax.invert_affine(np.ones((4, 5))), ValueError, "affine must have shape"),
        (lambda: dark_jax.invert_affine(np.ones(3)), ValueError, "affine must have shape"),
        (
            lambda: dark_jax.invert_affine(np.ones((2, 2))),
            ValueError,
            r"affine must be homogeneous, with the last row \(0, 1\), got \[1\. 1\.\]",
        ),
        (lambda: dark_jax.invert_affine(PUSH), ValueError, "affine must be invertible"),
        (
            lambda: dark_jax.apply_affine(np.ones(4), PUSH),
            ValueError,
            r"coords must have shape \[\.\.\., dim\], dim from 1 to 3, got \(4,\)",
        ),
        (
            lambda: dark_jax.apply_affine(np.ones(3), PUSH),
            ValueError,
            r"3, 4\] or, homogeneous, \[\.\.\., 4, 4\] for coordinates \[\.\.\., 3\], got",
        ),
        (
            lambda: dark_jax.apply_affine(np.ones(3), np.eye(4)[::-1]),
            ValueError,
            r"affine must be homogeneous, with the last row \(0, 0, 0, 1\)",
        ),
        (
            lambda: dark_jax.apply_affine(np.ones((3, 4, 2)), np.ones((4, 2, 3))),
            ValueError,
            r"leading axes of affine must match the first of coords, \(3, 4\), or be 1, got \(4,\)",
        ),
        (
            lambda: dark_jax.apply_affine(np.ones(2), np.ones((4, 2, 3))),
            ValueError,
            "leading axes of affine",
        ),
        (
            lambda: dark_jax.to_image(np.ones((3, 2)), PUSH),  # pyright: ignore[reportArgumentType]
            TypeError,
            r"keypoints must be dark_jax\.Keypoints, got ndarray; apply_affine is for arrays",
        ),
        (
            lambda: dark_jax.to_image(DEPTH, PUSH),
            ValueError,
            r"affine must have shape \[\.\.\., 3, 4\] or, homogeneous",
        ),
        (
            lambda: dark_jax.to_image(ONE, np.ones((2, 2, 3))),
            ValueError,
            r"affine must match the first of the keypoints, \(3,\), or be 1",
        ),
        (
            lambda: dark_jax.map_to_input(
                map_size=SIZE, input_size=(1, 192), convention=conventions.DARKPOSE
            ),
            ValueError,
            "input_size must be at least 2",
        ),
    ],
)
def test_errors(call: Callable[[], Any], error: type[Exception], match: str) -> None:
    with pytest.raises(error, match=match):
        call()
