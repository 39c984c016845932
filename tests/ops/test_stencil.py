"""Derivatives and Newton steps in one, two and three dimensions."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dark_jax._ops.quadratic import Quadratic
from dark_jax._ops.stencil import COMPACT, TAYLOR, Stencil
from tests.support import synthetic

STENCILS = {"taylor": TAYLOR, "compact": COMPACT}


@pytest.fixture(params=STENCILS)
def stencil(request: pytest.FixtureRequest) -> Stencil:
    return STENCILS[request.param]


def symmetric(seed: int, dim: int) -> np.ndarray:
    matrix = synthetic.rng(seed).standard_normal((dim, dim))
    return matrix + matrix.T


def quadratic(gradient: np.ndarray, hessian: np.ndarray) -> Quadratic:
    return Quadratic(
        tuple(jnp.float32(slope) for slope in gradient),
        tuple(tuple(jnp.float32(value) for value in row) for row in hessian),
    )


def test_offsets() -> None:
    """The peak first; every pixel that is needed, and no other."""
    for dim, taylor, compact in ((1, 5, 3), (2, 13, 7), (3, 25, 13)):
        for stencil, count in ((TAYLOR, taylor), (COMPACT, compact)):
            offsets = stencil.offsets(dim)
            assert not offsets[0].any()
            assert len(np.unique(offsets, axis=0)) == count
            assert len(offsets) % 16 == 0
            assert np.abs(offsets).max() == stencil.reach


@pytest.mark.parametrize("dim", [1, 2, 3])
def test_a_quadratic_is_differentiated_exactly(stencil: Stencil, dim: int) -> None:
    gradient, hessian = synthetic.rng(dim).standard_normal(dim), symmetric(dim, dim)
    offsets = stencil.offsets(dim)
    values = offsets @ gradient + np.einsum("ni,ij,nj->n", offsets, hessian, offsets) / 2
    found = stencil.quadratic(jnp.asarray(values, jnp.float32), dim)
    np.testing.assert_allclose(found.gradient, gradient, atol=2e-6)
    np.testing.assert_allclose(found.hessian, hessian, atol=5e-6)


@pytest.mark.parametrize("dim", [1, 2, 3])
def test_step_and_definiteness_are_those_of_numpy(dim: int) -> None:
    concave = 0
    for seed in range(60):
        gradient = synthetic.rng(100 + seed).standard_normal(dim)
        hessian = symmetric(seed, dim) - seed / 20 * np.eye(dim)
        model = quadratic(gradient, hessian)
        np.testing.assert_allclose(model.det, np.linalg.det(hessian), rtol=1e-4, atol=1e-5)
        step = -np.linalg.solve(hessian, gradient)
        if abs(np.linalg.det(hessian)) > 1e-2:
            np.testing.assert_allclose(
                model.newton_step(jnp.bool_(True)), step, rtol=2e-3, atol=2e-3
            )
        largest = np.linalg.eigvalsh(hessian)[-1]
        if abs(largest) > 1e-3:
            assert bool(model.concave) == (largest < 0)
            concave += largest < 0
    assert 10 < concave < 60


@pytest.mark.parametrize("dim", [1, 2, 3])
def test_a_flat_map_is_singular_and_steps_nowhere(stencil: Stencil, dim: int) -> None:
    @jax.jit
    def step(values: jax.Array) -> jax.Array:
        model = stencil.quadratic(values, dim)
        return model.newton_step(model.det != 0)

    flat = jnp.full(len(stencil.offsets(dim)), 0.7)
    np.testing.assert_array_equal(step(flat), np.zeros(dim))
    assert np.isfinite(jax.jacobian(step)(flat)).all()


def test_ridge_is_added_to_the_diagonal() -> None:
    model = quadratic(np.ones(3), np.zeros((3, 3))).ridged(-0.5)
    np.testing.assert_array_equal(model.hessian, -0.5 * np.eye(3))
    np.testing.assert_allclose(model.newton_step(jnp.bool_(True)), [2, 2, 2])
