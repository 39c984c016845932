"""Compare the decoders and blurs that people run today with ours, on the same arrays in one run.

Both sides take and return NumPy arrays. Blobs have sigma 2 on maps of 64 x 48. Kernels are 11,
except the default of ``decode``.
"""

import functools
import textwrap
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

import dark_jax
from dark_jax import rules
from tests.benchmarks import peers
from tests.benchmarks.peers import Peer
from tests.benchmarks.timing import RUNS, interleaved, ratio
from tests.support import synthetic

Shape = tuple[int, int, int, int]

SHAPE: Shape = (64, 17, 64, 48)
SIGMA = 2.0
KERNEL = 11
TEMPERATURE = 0.05


@dataclass(frozen=True)
class Side:
    """A decoder or blur of dark_jax, and its counterpart that people run today.

    Attributes:
        theirs: the name of the counterpart, or None if there is none.
        ours: the name of the function of dark_jax.
        run: the function of dark_jax.
        load: loads the counterpart.
        blurs: whether both return blurred maps, and not coordinates.
    """

    theirs: str | None
    ours: str
    run: Peer
    load: Callable[[], Peer] | None = None
    blurs: bool = False


@dataclass
class Outcome:
    """The measurements of one side: seconds of the runs, mean errors and greatest difference.

    Without a counterpart, ``theirs`` is None and ``their_error`` is empty. The difference is the
    greatest over all conditions.
    """

    side: Side
    ours: np.ndarray
    theirs: np.ndarray | None = None
    differ: float = 0.0
    our_error: dict[str, float] = field(default_factory=dict)
    their_error: dict[str, float] = field(default_factory=dict)


def sides() -> list[Side]:
    def decoding(decoder: Callable[..., Any], **options: Any) -> Peer:
        return lambda maps: np.asarray(decoder(maps, **options).coords)

    def rule(name: str, theirs: str) -> Side:
        run = decoding(dark_jax.decode, rule=getattr(rules, name))
        return Side(theirs, f"decode, {name}", run, functools.partial(peers.home, name, KERNEL))

    reference = Side(
        "OpenCV loop (DarkPose)",
        "get_final_preds",
        lambda maps: np.asarray(dark_jax.get_final_preds(maps, KERNEL)[0]),
        functools.partial(peers.opencv_loop, KERNEL),
    )
    soft = decoding(dark_jax.decode_soft_argmax, temperature=TEMPERATURE)
    kornia = functools.partial(peers.kornia_soft_argmax, TEMPERATURE)
    dsntnn = functools.partial(peers.dsntnn_soft_argmax, TEMPERATURE)

    def blur(maps: np.ndarray) -> np.ndarray:
        return np.asarray(dark_jax.gaussian_blur(maps, KERNEL))

    opencv_blur = functools.partial(peers.opencv_blur, KERNEL)
    dm_pix = functools.partial(peers.dm_pix_blur, KERNEL)
    return [
        reference,
        rule("MMPOSE_MSRA", "mmpose, MSRA"),
        rule("MMPOSE_DARK", "mmpose, DARK"),
        rule("MMPOSE_UDP", "mmpose, DARK for UDP"),
        rule("MEGVII", "mmpose, Megvii"),
        rule("VITPOSE", "rtmlib, ViTPose"),
        rule("HF_VITPOSE", "transformers, VitPose"),
        rule("SAPIENS2", "transformers, Sapiens2"),
        Side("kornia, soft-argmax", "decode_soft_argmax", soft, kornia),
        Side("dsntnn, soft-argmax", "decode_soft_argmax", soft, dsntnn),
        Side(None, "decode", decoding(dark_jax.decode)),
        Side(None, "decode, kernel_size=11", decoding(dark_jax.decode, kernel_size=KERNEL)),
        Side(None, "decode, sigma", decoding(dark_jax.decode, blur_sigma=SIGMA)),
        Side(None, "decode_fit, sigma", decoding(dark_jax.decode_fit, sigma=SIGMA)),
        Side("OpenCV blur, a loop", "gaussian_blur", blur, opencv_blur, blurs=True),
        Side("dm-pix blur", "gaussian_blur", blur, dm_pix, blurs=True),
    ]


def conditions(shape: Shape) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Maps ``[B, J, H, W]`` and the positions of their blobs, by condition."""
    size, count = (shape[2], shape[3]), shape[0] * shape[1]
    inside = functools.partial(synthetic.gaussians, 0, count, size, sigma=SIGMA, margin=10.0)
    parts = [synthetic.border(seed, size, sigma=SIGMA) for seed in range(2)]
    edges, on_edge = (np.concatenate(values)[:count] for values in zip(*parts, strict=True))
    edges += np.float32(0.02) * synthetic.noise(3, count, size, zero_mean=True)
    found = {
        "no noise": inside(),
        "noise .02": inside(noise=0.02),
        "noise .02, at an edge": (edges, on_edge),
        "noise .02, height 255": inside(noise=0.02, amplitude=255.0),
    }
    return {
        name: (maps.reshape(shape), points.reshape(*shape[:2], 2))
        for name, (maps, points) in found.items()
    }


def measured(shape: Shape, *, runs: int) -> list[Outcome]:
    cases = conditions(shape)
    maps, _ = cases["noise .02"]
    found = []
    for side in sides():
        peer = peers.loaded(side.load) if side.load else None
        candidates: dict[str, Callable[[], Any]] = {"ours": functools.partial(side.run, maps)}
        if peer:
            candidates["theirs"] = functools.partial(peer, maps)
        seconds = interleaved(candidates, runs=runs)
        outcome = Outcome(side, seconds["ours"], seconds.get("theirs"))
        for name, (its_maps, points) in cases.items():
            mine = side.run(its_maps)
            theirs = peer(its_maps) if peer else mine
            apart = np.abs(theirs - mine).max() / (np.abs(mine).max() if side.blurs else 1)
            outcome.differ = max(outcome.differ, float(apart))
            if not side.blurs:
                outcome.our_error[name] = _mean(mine - points)
                if peer:
                    outcome.their_error[name] = _mean(theirs - points)
        found.append(outcome)
    return found


def _mean(errors: np.ndarray) -> float:
    return float(np.linalg.norm(errors, axis=-1).mean())


@functools.cache
def outcomes() -> list[Outcome]:
    """Measure once for the table and the chart of the README."""
    return measured(SHAPE, runs=RUNS)


def rows() -> list[dict[str, str]]:
    return described(outcomes())


def described(outcomes: list[Outcome]) -> list[dict[str, str]]:
    """One row per side. The errors are those of dark_jax."""
    found = []
    for outcome in outcomes:
        side = outcome.side
        row = {"you run now": side.theirs or "", "the same in dark_jax": side.ours}
        if outcome.theirs is not None:
            row["ms"] = f"{1e3 * np.median(outcome.theirs):.1f}"
        elif side.theirs:
            row["ms"] = "not installed"
        row["ours, ms"] = f"{1e3 * np.median(outcome.ours):.1f}"
        if outcome.theirs is not None:
            row["times as long"] = ratio(outcome.theirs, outcome.ours)
            row["differ by at most"] = f"{outcome.differ:.0e}"
        for name, value in outcome.our_error.items():
            row[name] = f"{value:.1e}" if value < 1e-3 else f"{value:.3f}"
        found.append({name: row.get(name, "") for name in COLUMNS})
    return found


COLUMNS = (
    "you run now",
    "the same in dark_jax",
    "ms",
    "ours, ms",
    "times as long",
    "differ by at most",
    *("no noise", "noise .02", "noise .02, at an edge", "noise .02, height 255"),
)


def chart(stamp: str) -> Any:
    """Plot time and error of every decoder that ran, as a matplotlib figure."""
    from matplotlib.figure import Figure

    bars: list[tuple[str, np.ndarray, dict[str, float], bool]] = []
    for outcome in outcomes():
        if outcome.side.blurs:
            continue
        if outcome.theirs is not None and outcome.side.theirs:
            bars.append((outcome.side.theirs, outcome.theirs, outcome.their_error, False))
        if outcome.side.ours not in [name for name, *_ in bars]:
            bars.append((outcome.side.ours, outcome.ours, outcome.our_error, True))
    bars.sort(key=lambda bar: -np.median(bar[1]))
    per_map = 1e6 / (SHAPE[0] * SHAPE[1])
    figure = Figure(figsize=(10.5, 5.4), layout="constrained")
    speed, accuracy = figure.subplots(1, 2, sharey=True)
    rows = np.arange(len(bars))
    colours = ["#d81b60" if ours else "#9aa5b1" for *_, ours in bars]
    low, middle, high = np.percentile([per_map * bar[1] for bar in bars], [25, 50, 75], axis=1)
    speed.barh(rows, middle, color=colours)
    speed.errorbar(middle, rows, xerr=[middle - low, high - middle], fmt="none", color="black")
    for row, value in enumerate(middle):
        speed.text(high[row] * 1.15, row, f"{value:.3g}", va="center", fontsize=8)
    speed.set(xscale="log", xlabel="µs a map (median and quartiles)", xlim=(None, 3 * high.max()))
    speed.set_yticks(rows, [name for name, *_ in bars])
    for label, (*_, ours) in zip(speed.get_yticklabels(), bars, strict=True):
        label.set_fontweight("bold" if ours else "normal")
    markers = {"noise .02": "o", "noise .02, at an edge": "s", "noise .02, height 255": "x"}
    for name, marker in markers.items():
        values = [bar[2][name] for bar in bars]
        edges = {} if marker == "x" else {"edgecolors": "black", "linewidths": 0.4}
        accuracy.scatter(values, rows, marker=marker, c=colours, label=name, zorder=3, **edges)
    accuracy.set(xscale="log", xlabel="mean error, heatmap px (sigma 2)")
    ticks = (0.02, 0.05, 0.1, 0.2, 0.5, 1)
    accuracy.set_xticks(ticks, [f"{tick:g}" for tick in ticks], minor=False)
    accuracy.grid(alpha=0.3)
    figure.legend(loc="outside lower right", ncols=3, fontsize=9, frameon=False)
    figure.suptitle(textwrap.fill(stamp, 160), fontsize=7, color="#555555")
    return figure
