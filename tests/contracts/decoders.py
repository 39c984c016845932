"""Every decoder as one function of a batch of maps, for tests of the ways to compile it."""

import re
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import dark_jax
from tests.support import synthetic, tolerances

SIZE = (20, 18)
# Images and joints of most tests: a multiple of the four devices, compiled once for all.
BATCH = (8, 4)

COLLECTIVE = re.compile(r"\b(?:[\w-]*all-[\w-]+|collective-[\w-]+|reduce-scatter[\w-]*)\(")


def maps(batch: int, joints: int) -> np.ndarray:
    """Bumps, and in every image one map whose zeros the reference's clamp bites on."""
    values, _ = synthetic.gaussians(0, batch * joints, SIZE, sigma=2.0, noise=0.02, margin=0.0)
    values = values.reshape(batch, joints, *SIZE)
    values[:, 0] = synthetic.cut(values[:, 0], threshold=0.8)
    return values


def bins(maps: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The largest of every column and of every row; NaN where one holds it, on every device."""

    def largest(axis: int) -> jax.Array:
        return jnp.where(jnp.isnan(maps).any(axis), jnp.nan, maps.max(axis))

    return largest(-2), largest(-1)


FUNCTIONS: dict[str, Callable[..., Any]] = {
    "decode": dark_jax.decode,
    "decode sigma": lambda m: dark_jax.decode(m, sigma=1.5),
    "decode rule": lambda m: dark_jax.decode(m, rule=dark_jax.rules.VITPOSE),
    "fit": lambda m: dark_jax.decode_fit(m, sigma=2.0),
    # Sharp: the last bits of a whole background's weights would be 4e-5 px.
    "soft argmax": lambda m: dark_jax.decode_soft_argmax(m, temperature=0.03),
    "soft argmax window": lambda m: dark_jax.decode_soft_argmax(m, temperature=0.1, radius=4),
    "peaks": lambda m: dark_jax.decode_peaks(m, max_peaks=5, threshold=0.2, min_distance=2),
    "simcc": lambda m: dark_jax.decode_simcc(*bins(m), rule=dark_jax.rules.GUARDED),
    "simcc rule": lambda m: dark_jax.decode_simcc(*bins(m)),
    "encode": lambda m: dark_jax.encode(SIZE[0] * m[..., 0, :2], size=SIZE),
    "get_max_preds": dark_jax.get_max_preds,
    "gaussian_blur": dark_jax.gaussian_blur,
    "get_final_preds": dark_jax.get_final_preds,
}


def assert_same(found: Any, expected: Any) -> None:
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        assert a.shape == b.shape
        assert a.dtype == b.dtype
        np.testing.assert_allclose(a, b, rtol=0, atol=tolerances.COMPILED * 20)


def assert_as_on_one_device(name: str, found: Any, expected: Any) -> None:
    """Integer peaks, and whatever else is whole, to the bit; the rest to a millionth of a pixel."""
    # But for the rounding of a sum over the whole map.
    rounding = tolerances.EPS32 * max(SIZE) if name == "soft argmax" else 0
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        assert (a.shape, a.dtype) == (b.shape, b.dtype)
        whole = np.asarray(b == jnp.round(b))
        np.testing.assert_array_equal(np.asarray(a)[whole], np.asarray(b)[whole])
        np.testing.assert_allclose(a, b, rtol=0, atol=tolerances.COMPILED + rounding)
