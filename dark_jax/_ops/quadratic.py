"""The quadratic model of a function around a point, and the Newton step to its maximum."""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp

from dark_jax._core.numerics import inverse_power_of_two

Matrix = tuple[tuple[jax.Array, ...], ...]


class Quadratic(NamedTuple):
    """Gradient ``[dim]`` and symmetric Hessian ``[dim][dim]`` at a point, as scalars in tuples."""

    gradient: tuple[jax.Array, ...]
    hessian: Matrix

    @property
    def det(self) -> jax.Array:
        """Determinant of the Hessian."""
        return _determinant(self.hessian)

    @property
    def concave(self) -> jax.Array:
        """Whether the Hessian is negative definite: its leading minors alternate in sign."""
        leading = [
            _determinant(tuple(row[:size] for row in self.hessian[:size]))
            for size in range(1, len(self.hessian) + 1)
        ]
        signs = [minor > 0 if size % 2 else minor < 0 for size, minor in enumerate(leading)]
        return functools.reduce(jnp.logical_and, signs)

    @property
    def step_times_det(self) -> tuple[jax.Array, ...]:
        """The Newton step ``-H^-1 g`` times the determinant, by Cramer's rule."""
        replaced = [
            tuple(
                (*row[:axis], -slope, *row[axis + 1 :])
                for row, slope in zip(self.hessian, self.gradient, strict=True)
            )
            for axis in range(len(self.gradient))
        ]
        return tuple(_determinant(matrix) for matrix in replaced)

    def rise(self, step: jax.Array) -> jax.Array:
        """By how much the model is higher after a step ``[dim]``."""
        bent = jnp.stack([jnp.stack(row) for row in self.hessian])
        slope = jnp.stack(self.gradient)
        return jnp.sum(step * (slope + 0.5 * jnp.sum(bent * step[None], axis=1)))

    def ridged(self, amount: float | jax.Array) -> "Quadratic":
        """The same model with ``amount`` added to the diagonal of its Hessian."""
        hessian = tuple(
            tuple(value + amount if i == j else value for j, value in enumerate(row))
            for i, row in enumerate(self.hessian)
        )
        return Quadratic(self.gradient, hessian)

    def newton_step(self, valid: jax.Array) -> jax.Array:
        """``[dim]``, the step to where the gradient is zero; zero where not ``valid``."""
        return jnp.stack(self.newton_steps(valid))

    def newton_steps(self, valid: jax.Array) -> tuple[jax.Array, ...]:
        """As :meth:`newton_step`, but as a tuple of scalars."""
        near_one = self._near_one()
        # The denominator is made safe before the choice. Otherwise its gradient would be NaN.
        det = jnp.where(valid, near_one.det, 1)
        return tuple(jnp.where(valid, way / det, 0) for way in near_one.step_times_det)

    def _near_one(self) -> "Quadratic":
        """A model with the same Newton step whose second derivatives are near one.

        The derivative of a quotient divides by the square of the determinant. The square of a small
        determinant would be rounded to zero.
        """
        curvatures = [jnp.abs(row[axis]) for axis, row in enumerate(self.hessian)]
        scale = inverse_power_of_two(functools.reduce(jnp.maximum, curvatures))
        return jax.tree.map(lambda value: value * scale, self)

    def negative_inverse(self, valid: jax.Array) -> jax.Array:
        """``[dim, dim]``, the inverse of minus the Hessian; zero where not ``valid``."""
        unit = jnp.eye(len(self.gradient), dtype=self.gradient[0].dtype)
        return jnp.stack([self._replace(gradient=tuple(row)).newton_step(valid) for row in unit])


def _determinant(matrix: Matrix) -> jax.Array:
    first, *others = matrix
    if not others:
        return first[0]
    if len(first) == 2:
        return _difference(first[0] * others[0][1], first[1] * others[0][0])
    total = jnp.zeros_like(first[0])
    for column, value in enumerate(first):
        minor = tuple((*row[:column], *row[column + 1 :]) for row in others)
        total += (-1) ** column * value * _determinant(minor)
    return total


@jax.custom_jvp
def _difference(a: jax.Array, b: jax.Array) -> jax.Array:
    # A fused multiply-add of equal products would give the rounding error of one, not zero.
    return jnp.where(a == b, 0, a - b)


@_difference.defjvp
def _difference_jvp(primals, tangents):
    # Products that are equal may still have different tangents. A step of zero has a gradient too.
    return _difference(*primals), tangents[0] - tangents[1]
