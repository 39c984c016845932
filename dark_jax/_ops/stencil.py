"""Finite differences around a peak, and the Newton step to the top, in any dimension.

Offsets, gradients and steps are (x, y, ...); a map's axes are the other way round.
"""

import functools
import itertools
from dataclasses import dataclass
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np

# Whole vectors of 16 are multiplied and logged faster than 13 values (7 % of a decode on the
# CPU): stencils are filled up with further copies of the peak.
_VECTOR = 16

Matrix = tuple[tuple[jax.Array, ...], ...]


class Derivatives(NamedTuple):
    """Gradient ``[dim]`` and symmetric Hessian ``[dim][dim]`` at a peak, of scalars."""

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
    def numerator(self) -> tuple[jax.Array, ...]:
        """The Newton step ``-H^-1 g``, times the determinant, by Cramer's rule."""
        replaced = [
            tuple(
                (*row[:axis], -slope, *row[axis + 1 :])
                for row, slope in zip(self.hessian, self.gradient, strict=True)
            )
            for axis in range(len(self.gradient))
        ]
        return tuple(_determinant(matrix) for matrix in replaced)

    def ridged(self, amount: float) -> "Derivatives":
        """The same with ``amount`` added to the Hessian's diagonal."""
        hessian = tuple(
            tuple(value + amount if i == j else value for j, value in enumerate(row))
            for i, row in enumerate(self.hessian)
        )
        return Derivatives(self.gradient, hessian)

    def inverse(self, valid: jax.Array) -> jax.Array:
        """``[dim, dim]``, the Hessian's inverse with its sign changed; zero where not ``valid``."""
        unit = jnp.eye(len(self.gradient), dtype=self.gradient[0].dtype)
        return jnp.stack([self._replace(gradient=tuple(row)).step(valid) for row in unit])

    def step(self, valid: jax.Array) -> jax.Array:
        """``[dim]``, the Newton step; zero where not ``valid``."""
        # The denominator is safe before the choice, or its gradient would be NaN.
        return jnp.where(valid, jnp.stack(self.numerator) / jnp.where(valid, self.det, 1), 0)


def _determinant(matrix: Matrix) -> jax.Array:
    first, *others = matrix
    if not others:
        return first[0]
    if len(first) == 2:
        same, cross = first[0] * others[0][1], first[1] * others[0][0]
        # A fused multiply-add would leave the rounding error of one product instead of zero.
        return jnp.where(same == cross, 0, same - cross)
    total = jnp.zeros_like(first[0])
    for column, value in enumerate(first):
        minor = tuple((*row[:column], *row[column + 1 :]) for row in others)
        total += (-1) ** column * value * _determinant(minor)
    return total


@dataclass(frozen=True)
class Stencil:
    """How the derivatives of a log map are formed from the pixels around a peak.

    Attributes:
        reach: pixels between the points of a second difference, 1 or 2.
        corners: a mixed difference takes all ``4`` diagonal neighbours, or the ``2`` of
            equal signs and the direct ones.

    Example:
        >>> import dataclasses
        >>> from dark_jax import decode, encode, rules
        >>> mixed = rules.Stencil(reach=1, corners=4)
        >>> rule = dataclasses.replace(rules.GUARDED, name="MIXED", stencil=mixed)
        >>> decode(encode([20.25, 30.5], size=(64, 48)), rule=rule).coords.round(2).tolist()
        [20.25, 30.5]

    References:
        ``rules.TAYLOR`` is that of DarkPose's ``taylor``, ``rules.COMPACT`` that of mmpose's
        ``refine_keypoints_dark_udp``.
    """

    reach: int
    corners: int

    def offsets(self, dim: int) -> np.ndarray:
        """``[n, dim]`` (dx, dy, ...) of the pixels that are read; the peak itself first."""
        axes = np.eye(dim, dtype=np.int32)
        steps = [sign * length for length in range(1, self.reach + 1) for sign in (-1, 1)]
        found = [0 * axes[0], *(step * axis for step in steps for axis in axes)]
        for i, j in itertools.combinations(axes, 2):
            found += [i + j, -i - j] if self.corners == 2 else [i + j, -i - j, i - j, j - i]
        filled = -len(found) % _VECTOR
        return np.stack(found + [found[0]] * filled)

    def derivatives(self, values: jax.Array, dim: int) -> Derivatives:
        """Central differences of the log ``values`` at ``offsets(dim)``."""
        chex.assert_shape(values, (len(self.offsets(dim)),))
        at = {tuple(o): value for o, value in zip(self.offsets(dim).tolist(), values, strict=True)}
        axes = np.eye(dim, dtype=np.int32)

        def v(offset: np.ndarray) -> jax.Array:
            return at[tuple(offset.tolist())]

        centre = v(0 * axes[0])
        hessian = [[centre] * dim for _ in range(dim)]
        for i, axis in enumerate(axes):
            far = self.reach * axis
            hessian[i][i] = (v(far) - 2 * centre + v(-far)) / self.reach**2
        for (i, a), (j, b) in itertools.combinations(enumerate(axes), 2):
            if self.corners == 4:
                mixed = (v(a + b) - v(b - a) - v(a - b) + v(-a - b)) / 4
            else:
                high = v(a + b) - v(a) - v(b) + centre
                mixed = (high + centre - v(-a) - v(-b) + v(-a - b)) / 2
            hessian[i][j] = hessian[j][i] = mixed
        gradient = tuple((v(axis) - v(-axis)) / 2 for axis in axes)
        return Derivatives(gradient, tuple(map(tuple, hessian)))

    def inside(self, position: tuple[jax.Array, ...], shape: tuple[int, ...]) -> jax.Array:
        """True where the whole stencil lies inside a map of ``shape`` (..., H, W)."""
        return inside(position, shape, low=self.reach, high=self.reach)


def inside(
    position: tuple[jax.Array, ...], shape: tuple[int, ...], *, low: int, high: int
) -> jax.Array:
    """True with at least ``low`` pixels before, and ``high`` after, the position on every axis."""
    sides = [
        (at >= low) & (at < size - high) for at, size in zip(position, shape[::-1], strict=True)
    ]
    return functools.reduce(jnp.logical_and, sides)


# The reference's: second differences with a stride of two pixels.
TAYLOR = Stencil(reach=2, corners=4)
# Of UDP and what descends from it: the direct neighbours only.
COMPACT = Stencil(reach=1, corners=2)
