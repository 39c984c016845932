"""Compare the answers of a device with those of the CPU, to the bit or within a bound.

Only rounding determines some answers, such as the step from a saddle of noise. So an answer counts
only if the CPU repeats it when the pixels move by a few units of their last digit. The table has
the share of such answers.
"""

import math
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from dark_jax import Keypoints
from tests.support import synthetic, tolerances

# How far a device may differ from the CPU. Lengths are in pixels, all else is a share of the
# largest value of a keypoint or map. Maps of bfloat16 are computed in float32 and have its bounds.
LENGTHS = ("coords", "sigma")
BOUNDS = {"coords": 1e-4, "sigma": 1e-4, "covariance": 1e-2, "gradient": 1e-3, "values": 1e-5}
# Pixels move by up to UNITS units in the last digit of float32, in each of DRAWS random draws.
UNITS = 8
DRAWS = 3
# How far this may move an answer that counts, as a share of the bound.
STEADY = 0.25
# The least share of answers that must count, because fewer are too few to judge by.
LEAST = 0.4

# A map whose values are all smaller counts as zero, because a device may flush such numbers.
NOTHING = 1e-30

# The number of axes of one keypoint or one map in each field.
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
    """The fields of a function's result, by name."""
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
    """Yield float32 maps with every finite pixel moved by a few units of its last digit.

    The first maximum keeps its value and stays the maximum, because all decoders begin with it.
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
    """The difference of a field per keypoint or map. It is infinite if only one value is finite."""
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
    """Whether the values are equal, with the sign of zeros. All NaN count as equal."""
    if not np.issubdtype(found.dtype, np.floating):
        return found == expected
    equal = (found == expected) & (np.signbit(found) == np.signbit(expected))
    return equal | (np.isnan(found) & np.isnan(expected))


def compared(found: Answers, expected: Answers, again: list[Answers]) -> dict[str, Any]:
    """A row of the table. It has the differences, and ``fault`` says what is wrong.

    ``again`` has the answers of the CPU for shaken maps.
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
    """A function of maps that returns the gradient of a weighted sum of the result of ``run``."""

    def weighted(heatmaps: jax.Array) -> jax.Array:
        result = run(heatmaps)
        result = result.coords if isinstance(result, Keypoints) else jax.tree.leaves(result)[0]
        weights = jnp.cos(jnp.arange(result.size, dtype=result.dtype)).reshape(result.shape)
        return jnp.sum(jnp.where(jnp.isfinite(result), result, 0) * weights)

    return lambda heatmaps: {"gradient": jax.grad(weighted)(heatmaps)}
