"""The maximum of every map of a batch."""

import functools

import jax

from dark_jax._core.batching import of_each
from dark_jax._ops.peak import find_peak


@functools.partial(jax.jit, static_argnames="axes")
def integer_peaks(heatmaps: jax.Array, *, axes: tuple[int, ...]) -> tuple[jax.Array, jax.Array]:
    """Coordinates ``[..., dim]`` and values ``[...]`` of the maxima; ``axes`` count from 0."""

    def one(heatmap: jax.Array) -> tuple[jax.Array, jax.Array]:
        peak = find_peak(heatmap)
        return peak.coords, peak.score

    return of_each(one, heatmaps, axes)
