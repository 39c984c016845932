"""Every decoder on maps of every dtype: equal numbers give equal results.

Results are float64 for float64 maps under x64, and float32 otherwise. The status is int8. NumPy
makes the rows for SimCC, because ``decoders.bins`` looks for NaN, which integers do not have.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import dark_jax
from tests.contracts.decoders import DECODERS, FIRST, KINDS, RULES, SIZE
from tests.support import synthetic
from tests.support.cases import slow_but

EVERY = {**DECODERS, **RULES}
NARROW = ("bool", "uint8", "int32", "float16", "bfloat16")
# These are computed like one of the dtypes above.
OTHERS = ("int8", "int16", "uint16", "uint32")
WIDE = ("int64", "uint64", "float64")
# Dtypes, and whether x64 is enabled, that take a branch of their own.
BRANCHES = [("uint8", False), ("bfloat16", False), ("int64", True), ("float64", True)]
# Both programs of ``FIRST``, with most of these.
FAST = [(name, dtype, False) for name in FIRST for dtype in ("bool", "uint8", "bfloat16")]
FAST += [("decode", dtype, True) for dtype in ("int64", "float64")]
# All dtypes for ``FIRST``. Variants read a map as their kind does, so a dtype that is converted and
# one that is not will do.
CASES = FAST + [(name, *case) for name in KINDS for case in BRANCHES]
CASES += [(name, *case) for name in EVERY for case in BRANCHES[::3]]
CASES += [(name, dtype, False) for name in FIRST for dtype in (*NARROW, *OTHERS, *WIDE)]
CASES += [(name, dtype, True) for name in FIRST for dtype in ("int32", "uint32", *WIDE)]
CASES = [*dict.fromkeys(CASES)]
# These decoders find the highest pixel in a float32 copy of the map or of its blur.
BLURRING = ("fit background", "soft argmax", "peaks")
EXACT = [name for name in (*KINDS, "decode rule", "simcc") if name not in BLURRING]
# For each dtype, the lowest integer that has the same float32 or float64 as its successor.
SAME_FLOATS = {"int32": 2**24, "uint32": 2**24, "int64": 2**53, "uint64": 2**53}
COLLIDING = [(name, dtype) for name in EXACT for dtype in SAME_FLOATS]
# Relative and absolute tolerance: sums are in another order, and float64 differs from float32.
ROUNDING = {"float32": 2e-5, "float64": 2e-3}


def whole_maps() -> np.ndarray:
    """``[1, 12, H, W]`` float32 whole numbers that every dtype holds, of bumps and flat maps."""
    bumps, _ = synthetic.gaussians(0, 8, SIZE, sigma=2.0, noise=0.02, margin=0.0)
    degenerate = synthetic.degenerate(SIZE)
    others = [degenerate[name] for name in ("zero", "tie", "flat top", "spike")]
    return np.clip(np.round(100 * np.stack([*bumps, *others])), 0, 120)[None]


def decoded(name: str, maps: Any) -> Any:
    if name.startswith("simcc"):
        rows = maps.max(axis=-2), maps.max(axis=-1)
        return dark_jax.decode_simcc(*rows, split_ratio=1.0, **EVERY[name].options)
    return EVERY[name](maps)


@functools.cache
def of_float32(name: str, *, binary: bool) -> Any:
    maps = whole_maps()
    return decoded(name, (maps > 50).astype(np.float32) if binary else maps)


@pytest.mark.parametrize(("name", "dtype", "x64"), slow_but(FAST, CASES, unpack=True))
def test_the_numbers_decide(name: str, dtype: str, x64: bool) -> None:
    """Every dtype gives the result of float32. Without x64, float64 is float32."""
    maps = whole_maps()
    typed = maps > 50 if dtype == "bool" else maps.astype(jnp.dtype(dtype))
    with jax.enable_x64(x64):
        found = decoded(name, typed)
    float_dtype = "float64" if x64 and dtype == "float64" else "float32"
    expected = of_float32(name, binary=dtype == "bool")
    if name in ("fit background", "rules.MEGVII") and float_dtype == "float64":
        # After the blur, rounding decides which of two equal peaks is higher.
        found, expected = (jax.tree.map(lambda a: a[:, :9], each) for each in (found, expected))
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        assert a.shape == b.shape
        if b.dtype == np.int8:
            assert a.dtype == np.int8
            np.testing.assert_array_equal(a, b)
        else:
            assert a.dtype == float_dtype
            close = ROUNDING[float_dtype]
            np.testing.assert_allclose(a, np.asarray(b, float_dtype), rtol=close, atol=close)


def test_float64_without_x64_is_float32() -> None:
    """The results agree to the bit, for numbers that float32 does not hold."""
    maps, _ = synthetic.gaussians(1, 12, SIZE, sigma=2.0, noise=0.02)
    fine = maps[None].astype(np.float64) / 3
    found, expected = dark_jax.decode(fine), dark_jax.decode(fine.astype(np.float32))
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        assert a.dtype == b.dtype
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize(
    ("name", "dtype"), slow_but([("decode", "int32"), ("decode", "int64")], COLLIDING, unpack=True)
)
def test_integers_that_are_one_float(name: str, dtype: str) -> None:
    """The greater of two integers is the peak, though the smaller comes first as the same float."""
    same = SAME_FLOATS[dtype]
    values = np.zeros(whole_maps().shape, dtype)
    values[..., 5, 2], values[..., 12, 11] = same, same + 1
    with jax.enable_x64(dtype in WIDE):
        found = decoded(name, jnp.asarray(values))
    coords = jax.tree.leaves(found)[0]
    np.testing.assert_allclose(coords, np.broadcast_to([11, 12], coords.shape), atol=0.01)
