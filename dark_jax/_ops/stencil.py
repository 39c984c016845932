"""Finite differences around a peak, in any dimension.

Offsets and gradients are (x, y, ...). The axes of a map have the reverse order.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import chex
import jax
import numpy as np

from dark_jax._ops.pixels import Position, inside
from dark_jax._ops.quadratic import Quadratic

# Stencils are filled up with copies of the peak to whole vectors of 16 values. These are multiplied
# and logged faster than 13 values, which saves 7 % of the time of a decode on the CPU.
_VECTOR = 16


@dataclass(frozen=True)
class Stencil:
    """How the derivatives of a log map are formed from the pixels around a peak.

    Attributes:
        reach: pixels between the points of a second difference, 1 or 2.
        corners: how many diagonal neighbours a mixed difference takes: all ``4``, or the ``2``
            whose offsets have equal signs; with ``2``, it also takes the direct neighbours.

    Example:
        >>> import dataclasses
        >>> from dark_jax import decode, encode, rules
        >>> mixed = rules.Stencil(reach=1, corners=4)
        >>> rule = dataclasses.replace(rules.GUARDED, name="MIXED", stencil=mixed)
        >>> decode(encode([20.25, 30.5], size=(64, 48)), rule=rule).coords.round(2).tolist()
        [20.25, 30.5]

    References:
        ``rules.TAYLOR`` is the stencil of DarkPose's ``taylor``. ``rules.COMPACT`` is the stencil
        of mmpose's ``refine_keypoints_dark_udp``.
    """

    reach: int
    corners: int

    def __post_init__(self) -> None:
        """Refuse values that have no meaning."""
        if self.reach not in (1, 2) or self.corners not in (2, 4):
            raise ValueError(
                "a stencil must have a reach of 1 or 2 and 2 or 4 corners, got "
                f"reach={self.reach!r}, corners={self.corners!r}"
            )

    def offsets(self, dim: int) -> np.ndarray:
        """``[n, dim]``, (dx, dy, ...) of the pixels that are read; the peak itself comes first."""
        axes = np.eye(dim, dtype=np.int32)
        steps = [sign * length for length in range(1, self.reach + 1) for sign in (-1, 1)]
        found = [0 * axes[0], *(step * axis for step in steps for axis in axes)]
        for i, j in itertools.combinations(axes, 2):
            found += [i + j, -i - j] if self.corners == 2 else [i + j, -i - j, i - j, j - i]
        filled = -len(found) % _VECTOR
        return np.stack(found + [found[0]] * filled)

    def quadratic(self, values: jax.Array, dim: int) -> Quadratic:
        """The model around the peak, by central differences of ``values`` at ``offsets(dim)``."""
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
        return Quadratic(gradient, tuple(map(tuple, hessian)))

    def inside(self, position: Position, shape: tuple[int, ...]) -> jax.Array:
        """True where the whole stencil lies inside a map of ``shape`` (..., H, W)."""
        return inside(position, shape, low=self.reach, high=self.reach)


# The stencil of DarkPose, whose second differences have a stride of two pixels.
TAYLOR = Stencil(reach=2, corners=4)
# The stencil of UDP and of the decoders derived from it. It takes adjacent pixels only.
COMPACT = Stencil(reach=1, corners=2)
