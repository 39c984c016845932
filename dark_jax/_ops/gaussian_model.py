"""The least-squares fit of a Gaussian to the window around a peak.

The model is separable, so every inner product is one of small matrices. The window is multiplied
by the functions of the model along each axis in turn, never by an array of its own size.
"""

import functools
import itertools
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from dark_jax._ops.pixels import Position, box, read
from dark_jax._ops.quadratic import Quadratic

# A function on the window: a sum of products. Each product takes one column from the basis of each
# axis, (x, y, ...).
_Sum = tuple[tuple[int, ...], ...]


class Window(NamedTuple):
    """The pixels around a start, and which of them count.

    ``values`` has the axes of the map, (..., y, x), and is zero where a pixel does not count.
    ``places`` and ``weights`` have one array ``[n]`` per axis, (x, y, ...). Places are coordinates
    counted from the start. Weights are 1 where a pixel counts, else 0.
    """

    values: jax.Array
    places: tuple[jax.Array, ...]
    weights: tuple[jax.Array, ...]

    def within(self, at: Sequence[jax.Array], reaches: Sequence[jax.Array | int]) -> "Window":
        """A window where only the pixels up to ``reaches`` from ``at`` on each axis count."""
        weights = tuple(
            weight * (jnp.abs(place - mu) <= reach).astype(weight.dtype)
            for weight, place, mu, reach in zip(self.weights, self.places, at, reaches, strict=True)
        )
        return Window(self.values * outer(weights), self.places, weights)


class Step(NamedTuple):
    """The best blob at a place, and a normal system whose solution improves the place.

    ``factors`` are those of the Gaussian, one per axis, (x, y, ...). ``norm`` is the inner product
    of the Gaussian with itself. The system is divided by it.
    """

    amplitude: jax.Array
    floor: jax.Array
    factors: tuple[jax.Array, ...]
    norm: jax.Array
    system: Quadratic


def window_at(
    heatmap: jax.Array, position: Position, reaches: Sequence[int], floor: jax.Array
) -> tuple[Window, jax.Array]:
    """The window minus the floor, zero where it is not finite; and whether all of it is finite."""
    values = read(heatmap, position, box(tuple(reaches)))
    finite = jnp.isfinite(values)
    places = [np.arange(-reach, reach + 1, dtype=np.int32) for reach in reaches]
    weights = [
        ((at + place >= 0) & (at + place < size)).astype(values.dtype)
        for at, place, size in zip(position, places, heatmap.shape[::-1], strict=True)
    ]
    counts = outer(weights)
    shaped = jnp.where(finite, values, floor).reshape(counts.shape)
    placed = tuple(jnp.asarray(place, values.dtype) for place in places)
    return Window((shaped - floor) * counts, placed, tuple(weights)), jnp.all(finite)


def through(values: jax.Array, matrices: Sequence[jax.Array]) -> jax.Array:
    """Multiply ``values [..., y, x]`` by one matrix ``[n, m]`` per axis, (x, y, ...)."""
    for matrix in matrices:
        product = jnp.matmul(values, matrix, precision=lax.Precision.HIGHEST)
        values = jnp.moveaxis(product, -1, 0)
    return values


def outer(factors: Sequence[jax.Array]) -> jax.Array:
    """``[..., y, x]``, the outer product of one factor per axis, (x, y, ...)."""
    product, *others = factors
    for factor in others:
        product = jnp.multiply.outer(factor, product)
    return product


class _Inner(NamedTuple):
    """Inner products of functions on a window with one another, and with its values.

    ``grams`` (one per axis) holds the inner products of the columns of each basis, and ``seen``
    those of the columns with the values. ``product`` and ``observed`` are inner products of
    functions from which ``constant`` is projected out.
    """

    grams: Sequence[jax.Array]
    seen: jax.Array
    constant: _Sum | None

    def raw(self, u: _Sum, v: _Sum) -> jax.Array:
        products = [
            functools.reduce(
                jnp.multiply, [gram[i, j] for gram, i, j in zip(self.grams, a, b, strict=True)]
            )
            for a, b in itertools.product(u, v)
        ]
        return functools.reduce(jnp.add, products)

    def product(self, u: _Sum, v: _Sum) -> jax.Array:
        if self.constant is None:
            return self.raw(u, v)
        along = self.raw(u, self.constant) * self.raw(v, self.constant)
        return self.raw(u, v) - along / self.raw(self.constant, self.constant)

    def read_off(self, u: _Sum) -> jax.Array:
        return functools.reduce(jnp.add, [self.seen[term[::-1]] for term in u])

    def observed(self, u: _Sum) -> jax.Array:
        if self.constant is None:
            return self.read_off(u)
        along = self.raw(u, self.constant) * self.read_off(self.constant)
        return self.read_off(u) - along / self.raw(self.constant, self.constant)


def gauss_newton(
    window: Window,
    at: Sequence[jax.Array],
    sigmas: Sequence[jax.Array],
    *,
    with_floor: bool = False,
    widths: Sequence[Sequence[int]] = (),
) -> Step:
    """The best amplitude (and floor) of a Gaussian ``at`` a place, and where to move it.

    Amplitude and floor enter linearly and are projected out. The unknowns that are left are the
    place and, after it, one for each entry of ``widths``: the logarithm of a factor that multiplies
    the sigmas of the axes in that entry.
    """
    bases = []
    for place, weight, mu, sigma in zip(window.places, window.weights, at, sigmas, strict=True):
        u = (place - mu) / sigma
        factor = weight * jnp.exp(-0.5 * u * u)
        columns = [factor, factor * u / sigma, weight]
        bases.append(jnp.stack(columns + [factor * u * u] * bool(widths), axis=-1))
    grams = [jnp.matmul(basis.T, basis, precision=lax.Precision.HIGHEST) for basis in bases]

    # These are the Gaussian, a constant, and the derivatives of the Gaussian by the unknowns.
    dim = len(bases)
    model: _Sum = ((0,) * dim,)
    constant: _Sum = ((2,) * dim,)
    along = [tuple(map(tuple, n * np.eye(dim, dtype=int))) for n in (1, 3)]
    slopes: list[_Sum] = [(term,) for term in along[0]]
    slopes += [tuple(along[1][axis] for axis in axes) for axes in widths]

    inner = _Inner(grams, through(window.values, bases), constant if with_floor else None)
    norm = inner.product(model, model)
    norm = jnp.where(norm > 0, norm, 1)
    amplitude = inner.observed(model) / norm
    shared = [inner.product(u, model) / norm for u in slopes]
    gradient = [
        amplitude * (inner.observed(u) / norm - amplitude * s)
        for u, s in zip(slopes, shared, strict=True)
    ]
    hessian = [
        [
            -(amplitude**2) * (inner.product(u, v) / norm - s * t)
            for v, t in zip(slopes, shared, strict=True)
        ]
        for u, s in zip(slopes, shared, strict=True)
    ]
    floor = jnp.zeros_like(amplitude)
    if with_floor:
        floor = inner.read_off(constant) - amplitude * inner.raw(model, constant)
        floor /= inner.raw(constant, constant)
    system = Quadratic(tuple(gradient), tuple(map(tuple, hessian)))
    return Step(amplitude, floor, tuple(basis[:, 0] for basis in bases), norm, system)


def residual_variance(window: Window, step: Step, parameters: int) -> jax.Array:
    """The variance of a pixel, if the residuals of the blob are noise.

    ``parameters`` is the number of fitted parameters. It is subtracted from the number of pixels,
    and so are two more. With these two, the ratio of squared errors to their estimated variance
    has the right mean.
    """
    weights = outer(window.weights)
    left = window.values - weights * (step.amplitude * outer(step.factors) + step.floor)
    freedom = jnp.maximum(jnp.sum(weights) - (parameters + 2), 1)
    return jnp.sum(left * left) / freedom
