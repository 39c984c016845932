"""Every decoder and rule as a function of a batch of maps, for measurements of each."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

import dark_jax
from tests.contracts.decoders import FUNCTIONS, bins

SHAPE = (64, 17, 64, 48)


def bare_max(maps: jax.Array) -> jax.Array:
    """One read of the maps, with which every decoder is compared."""
    return jnp.max(maps, (-2, -1))


def _integer_peaks(maps: jax.Array) -> dict[str, jax.Array]:
    peaks, scores = dark_jax.get_max_preds(maps)
    return {"peaks": peaks, "scores": scores}


# FUNCTIONS lists these for other reasons than their speed.
_VARIANTS = ("decode narrow", "decode rule", "fit background")

PROGRAMS: dict[str, Callable[..., Any]] = {
    **{name: run for name, run in FUNCTIONS.items() if name not in _VARIANTS},
    "get_max_preds": _integer_peaks,
    # The coordinates are made of pixels, in float32 for maps of any type.
    "encode": lambda maps: FUNCTIONS["encode"](maps.astype(jnp.float32)),
    "simcc": lambda maps: dark_jax.decode_simcc(*bins(maps)),
    # The rule's own kernel is 37.
    "simcc rule": lambda maps: dark_jax.decode_simcc(
        *bins(maps), rule=dark_jax.rules.MMPOSE_SIMCC_DARK
    ),
    "decode covariance": functools.partial(dark_jax.decode, covariance=True),
    "decode volumes": functools.partial(dark_jax.decode, axes=(-3, -2, -1)),
    "fit wide": functools.partial(dark_jax.decode_fit, sigma=6.0),
    "estimate_sigma": lambda maps: {"sigma": dark_jax.estimate_sigma(maps)},
    **{
        f"rules.{rule.name}": functools.partial(dark_jax.decode, rule=rule)
        for rule in dark_jax.rules.PUBLISHED
        if 2 in rule.dims
    },
}
