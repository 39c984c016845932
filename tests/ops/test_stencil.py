"""Derivatives and Newton steps in one, two and three dimensions."""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dark_jax._ops.quadratic import Matrix, Quadratic
from dark_jax._ops.stencil import COMPACT, TAYLOR, Stencil
from tests.support import synthetic

STENCILS = {"taylor": TAYLOR, "compact": COMPACT}


@pytest.fixture(params=STENCILS)
def stencil(request: pytest.FixtureRequest) -> Stencil:
    return STENCILS[request.param]


class Derived(NamedTuple):
    """The derivatives and the step from a stencil's values, and how the step changes with them."""

    gradient: tuple[jax.Array, ...]
    hessian: Matrix
    step: jax.Array
    jacobian: jax.Array


@functools.partial(jax.jit, static_argnames=("stencil", "dim"))
def derive(values: jax.Array, *, stencil: Stencil, dim: int) -> Derived:
    """Derive everything in one program for each stencil and dimension."""

    def step(values: jax.Array) -> jax.Array:
        model = stencil.quadratic(values, dim)
        return model.newton_step(model.det != 0)

    return Derived(*stencil.quadratic(values, dim), step(values), jax.jacobian(step)(values))


def symmetric(seed: int, dim: int) -> np.ndarray:
    matrix = synthetic.rng(seed).standard_normal((dim, dim))
    return matrix + matrix.T


def quadratic(gradient: jax.Array, hessian: jax.Array) -> Quadratic:
    return Quadratic(tuple(gradient), tuple(map(tuple, hessian)))


def test_offsets() -> None:
    """The peak comes first. The offsets hold every pixel that is needed, and no other."""
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
    found = derive(values.astype(np.float32), stencil=stencil, dim=dim)
    np.testing.assert_allclose(found.gradient, gradient, atol=2e-6)
    np.testing.assert_allclose(found.hessian, hessian, atol=5e-6)


@pytest.mark.parametrize("dim", [1, 2, 3])
def test_step_and_definiteness_are_those_of_numpy(dim: int) -> None:
    @jax.jit
    @jax.vmap
    def solve(gradient: jax.Array, hessian: jax.Array) -> tuple[jax.Array, ...]:
        model = quadratic(gradient, hessian)
        return model.det, model.concave, model.newton_step(jnp.bool_(True))

    gradients = np.stack([synthetic.rng(100 + seed).standard_normal(dim) for seed in range(60)])
    hessians = np.stack([symmetric(seed, dim) - seed / 20 * np.eye(dim) for seed in range(60)])
    found = solve(gradients.astype(np.float32), hessians.astype(np.float32))
    determinant, concave, steps = map(np.asarray, found)
    expected = np.linalg.det(hessians)
    np.testing.assert_allclose(determinant, expected, rtol=1e-4, atol=1e-5)
    regular = np.abs(expected) > 1e-2
    newton = -np.linalg.solve(hessians, gradients[..., None])[..., 0]
    np.testing.assert_allclose(steps[regular], newton[regular], rtol=2e-3, atol=2e-3)
    largest = np.linalg.eigvalsh(hessians)[:, -1]
    clear = np.abs(largest) > 1e-3
    np.testing.assert_array_equal(concave[clear], largest[clear] < 0)
    assert 10 < (largest[clear] < 0).sum() < 60


@pytest.mark.parametrize("dim", [1, 2, 3])
def test_a_flat_map_is_singular_and_steps_nowhere(stencil: Stencil, dim: int) -> None:
    flat = np.full(len(stencil.offsets(dim)), 0.7, np.float32)
    found = derive(flat, stencil=stencil, dim=dim)
    np.testing.assert_array_equal(found.step, np.zeros(dim))
    assert np.isfinite(found.jacobian).all()


def test_ridge_is_added_to_the_diagonal() -> None:
    @jax.jit
    def ridged(gradient: jax.Array, hessian: jax.Array) -> tuple[Matrix, jax.Array]:
        model = quadratic(gradient, hessian).ridged(-0.5)
        return model.hessian, model.newton_step(jnp.bool_(True))

    hessian, step = ridged(np.ones(3, np.float32), np.zeros((3, 3), np.float32))
    np.testing.assert_array_equal(hessian, -0.5 * np.eye(3))
    np.testing.assert_allclose(step, [2, 2, 2])
