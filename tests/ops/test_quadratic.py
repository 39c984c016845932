"""The Newton step of a quadratic model, and its gradient, at any scale."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dark_jax._ops.quadratic import Quadratic
from tests.support import synthetic


@pytest.mark.parametrize("dim", [1, 2, 3])
def test_step_and_gradient_at_any_scale(dim: int) -> None:
    """The gradient divides by the square of the determinant. That of a tiny one would vanish."""
    random = synthetic.rng(dim).standard_normal((dim, dim))
    hessian = -(random @ random.T + np.eye(dim)).astype(np.float32)
    gradient = np.ones(dim, np.float32)

    @jax.jit
    def step(gradient: jax.Array, hessian: jax.Array) -> jax.Array:
        model = Quadratic(tuple(gradient), tuple(tuple(row) for row in hessian))
        return model.newton_step(model.concave)

    slopes = jax.jit(jax.jacobian(step, argnums=1))
    plain, plain_slopes = step(gradient, hessian), slopes(gradient, hessian)
    np.testing.assert_allclose(plain, -np.linalg.solve(hessian, gradient), rtol=1e-5)
    for power in (-36, -10, 10, 20):
        scale = np.float32(2.0**power)
        np.testing.assert_array_equal(step(gradient * scale, hessian * scale), plain)
        found = slopes(gradient * scale, hessian * scale)
        np.testing.assert_array_equal(found * jnp.float32(scale), plain_slopes)


@pytest.mark.parametrize("dim", [1, 2, 3])
def test_a_step_of_zero_has_its_gradient(dim: int) -> None:
    """The step of a symmetric map is exactly zero, and it changes with the map like any other."""
    hessian = np.diag(np.arange(-2, -2 - dim, -1)).astype(np.float32)

    def step(gradient: jax.Array) -> jax.Array:
        return Quadratic(tuple(gradient), tuple(map(tuple, hessian))).newton_step(jnp.bool_(True))

    zero = jnp.zeros(dim)
    np.testing.assert_array_equal(step(zero), zero)
    for jacobian in (jax.jacfwd(step), jax.jacrev(step)):
        np.testing.assert_allclose(jacobian(zero), -np.linalg.inv(hessian), rtol=1e-6, atol=0)
