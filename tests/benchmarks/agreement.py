"""Whether a device gives the CPU's answers: to the bit, or within a bound.

Rounding alone determines some answers, such as the step from a saddle of noise. An answer counts
where the CPU gives it again when the pixels move by a few units of their last digit; the table
has the share of these.
"""

import math
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from dark_jax import Keypoints
from tests.support import synthetic, tolerances

# How far a device may be from the CPU: lengths in pixels, all else as a share of the largest
# value of a keypoint or map. Maps of bfloat16 are computed in float32, and have its bounds.
LENGTHS = ("coords", "sigma")
BOUNDS = {"coords": 1e-4, "sigma": 1e-4, "covariance": 1e-2, "gradient": 1e-3, "values": 1e-5}
# Pixels move by so many units of float32's last digit, in so many draws.
UNITS = 8
DRAWS = 3
# How far they may move an answer that counts, as a share of the bound.
STEADY = 0.25
# Less is too little to judge by.
LEAST = 0.4

# Where all of a map is less, it is zero: a device may flush such numbers.
NOTHING = 1e-30

# Axes of one keypoint, or of one map, in each field.
AXES = {"coords": 1, "sigma": 0, "covariance": 2, "gradient": 2, "values": 2}

EXACT = ("peaks", "scores", "status")
COLUMNS = (*(f"{name} differ" for name in EXACT), *BOUNDS, "counted", "fault")

Answers = dict[str, np.ndarray]


def maps(shape: tuple[int, ...]) -> np.ndarray:
    """``[..., H, W]`` float32: all degenerate maps of the tests, and as many of each other kind."""
    count = math.prod(shape[:-2])
    cases = synthetic.reference_cases((shape[-2], shape[-1]), count=count // 30 + 1)
    degenerate = cases.pop("degenerate")
    each = -(-(count - len(degenerate)) // len(cases))
    kinds = [values[:: max(len(values) // each, 1)][:each] for values in cases.values()]
    return np.resize(np.concatenate([degenerate, *kinds]), shape).astype(np.float32)


def answers(result: Any) -> Answers:
    """The fields of a function's result by what they are."""
    if isinstance(result, Keypoints):
        fields = {"coords": result.coords, "scores": result.scores, "status": result.status}
        if result.covariance is not None:
            fields["covariance"] = result.covariance
    elif isinstance(result, dict):
        fields = result
    elif isinstance(result, tuple):
        fields = dict(zip(("coords", "scores"), result, strict=True))
    else:
        fields = {"values": result}
    return {name: np.asarray(value) for name, value in fields.items()}


def shaken(heatmaps: np.ndarray) -> Iterator[np.ndarray]:
    """The maps, float32, with every finite pixel moved by a few units of its last digit.

    The first maximum stays, and stays the maximum: it is what all decoders begin with.
    """
    maps = heatmaps.reshape(-1, math.prod(heatmaps.shape[-2:]))
    first = np.arange(len(maps)), maps.argmax(axis=1)
    below = np.nextafter(maps[first], np.float32(-np.inf))[:, None]
    for seed in range(DRAWS):
        draw = synthetic.rng(seed).uniform(-UNITS, UNITS, maps.shape).astype(np.float32)
        moved = np.fmin(maps * (1 + np.float32(tolerances.EPS32) * draw), below)
        moved = np.where(np.isfinite(maps), moved, maps)
        moved[first] = maps[first]
        yield moved.reshape(heatmaps.shape)


def difference(name: str, found: np.ndarray, expected: np.ndarray) -> np.ndarray:
    """How far apart a field is, of each keypoint or map; infinite where only one is finite."""
    axes = tuple(range(-AXES[name], 0))
    with np.errstate(invalid="ignore"):
        apart = np.abs(found.astype(np.float64) - expected)
    same = (found == expected) | (np.isnan(found) & np.isnan(expected))
    apart = np.where(same, 0, np.where(np.isnan(apart), np.inf, apart)).max(axis=axes)
    if name in LENGTHS:
        return apart
    size = np.where(np.isfinite(expected), np.abs(expected), 0).max(axis=axes).astype(np.float64)
    return apart / np.maximum(size, NOTHING)


def same_bits(found: np.ndarray, expected: np.ndarray) -> np.ndarray:
    """Whether each value is the other's, the sign of a zero included; one NaN is as another."""
    if not np.issubdtype(found.dtype, np.floating):
        return found == expected
    equal = (found == expected) & (np.signbit(found) == np.signbit(expected))
    return equal | (np.isnan(found) & np.isnan(expected))


def compared(found: Answers, expected: Answers, again: list[Answers]) -> dict[str, Any]:
    """A row of the table: what differs, and in ``fault`` what should not.

    ``again`` is what the CPU answers to maps that are shaken.
    """
    row: dict[str, Any] = {}
    counted, faults = [], []
    if found.keys() != expected.keys():
        faults.append(f"{', '.join(found)} in place of {', '.join(expected)}")
    for name in (name for name in expected if name in found):
        a, b = found[name], expected[name]
        if (a.shape, a.dtype) != (b.shape, b.dtype):
            faults.append(f"{name}: {a.dtype} {a.shape} in place of {b.dtype} {b.shape}")
            continue
        if name in BOUNDS:
            moved = np.max([difference(name, each[name], b) for each in again], axis=0)
            steady = np.asarray(moved <= STEADY * BOUNDS[name])
            row[name] = float(difference(name, a, b)[steady].max(initial=0))
            if row[name] > BOUNDS[name]:
                faults.append(f"{name} differ by {row[name]:.1g}")
        else:
            same = same_bits(a, b)
            steady = np.ones_like(same)
            if name == "status":
                steady = np.all([each[name] == b for each in again], axis=0)
            row[f"{name} differ"] = wrong = int((steady & ~same).sum())
            if wrong:
                faults.append(f"{wrong} {name} differ")
        counted.append(float(steady.mean()))
        if counted[-1] < LEAST:
            faults.append(f"{name}: only {counted[-1]:.0%} can be judged")
    row |= {"counted": min(counted, default=0.0), "fault": "; ".join(faults)}
    return dict.fromkeys(COLUMNS) | row


def gradient(run: Callable[..., Any]) -> Callable[[jax.Array], dict[str, jax.Array]]:
    """The gradient in the maps of a weighted sum of what a function finds."""

    def weighted(heatmaps: jax.Array) -> jax.Array:
        result = run(heatmaps)
        result = result.coords if isinstance(result, Keypoints) else jax.tree.leaves(result)[0]
        weights = jnp.cos(jnp.arange(result.size, dtype=result.dtype)).reshape(result.shape)
        return jnp.sum(jnp.where(jnp.isfinite(result), result, 0) * weights)

    return lambda heatmaps: {"gradient": jax.grad(weighted)(heatmaps)}
