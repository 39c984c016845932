"""Plot the errors over the resolution, and frames with the keypoints found in them."""

import io
from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from tests.benchmarks.resolution.decoders import decoders
from tests.benchmarks.resolution.experiment import Outcome, by_setting, score
from tests.benchmarks.resolution.frames import Frames

SHOWN = ("argmax", "DARK, k = 5", "fit")
COLOURS = ("#ffffff", "#ff9f1c", "#00e5ff")


def errors(outcomes: Sequence[Outcome], source: str) -> Figure:
    """Plot one line per decoder for all folds together. Bars are standard errors over frames."""
    figure = Figure(figsize=(9, 4), layout="constrained")
    left, right = figure.subplots(1, 2)
    grouped = by_setting(outcomes)
    sides = np.array([setting.map_size[0] for setting in grouped])
    names = list(decoders(next(iter(grouped))))
    for n, name in enumerate(names):
        scores = [score(same, name) for same in grouped.values()]
        # Shift each line sideways, because bars of nearly equal errors would hide each other.
        at = sides * 1.02 ** (n - (len(names) - 1) / 2)
        for axes, height, bar in (
            (left, [s.error for s in scores], [s.deviation for s in scores]),
            (right, [s.gain for s in scores], [s.gain_deviation for s in scores]),
        ):
            axes.errorbar(at, height, bar, label=name, marker="o", markersize=4, capsize=2)
    for axes, label in ((left, "mean error"), (right, "less than argmax by")):
        axes.set_xscale("log", base=2)
        axes.set_xticks(sides, [f"{side}x{side}" for side in sides])
        axes.set(xlabel="heatmap", ylabel=f"{label}, frame pixels")
        axes.grid(alpha=0.3)
    left.set_ylim(bottom=0)
    left.legend(fontsize=8)
    figure.suptitle(source, fontsize=9)
    return figure


def predictions(outcomes: Sequence[Outcome], frames: Frames, *, count: int = 4) -> Figure:
    """Plot the first frames of the first fold, one row per resolution. Crosses are the truth."""
    grouped = by_setting(outcomes)
    figure = Figure(figsize=(2.6 * count, 2.7 * len(grouped) + 0.4), layout="constrained")
    grid = figure.subplots(len(grouped), count, squeeze=False)
    for row, (setting, same) in zip(grid, grouped.items(), strict=True):
        outcome = same[0]
        for n, axes in enumerate(row[: len(outcome.chosen)]):
            picture = frames.images[outcome.chosen[n]]
            axes.imshow(picture, cmap="gray", vmin=0, vmax=1)
            for name, colour in zip(SHOWN, COLOURS, strict=True):
                style = {"color": colour, "markersize": 5, "markeredgecolor": "black"}
                axes.plot(*outcome.coords[name][n].T, "o", label=name, **style)
            axes.plot(*outcome.truth[n].T, "+", color="#7CFC00", markersize=9, label="truth")
            x, y, width, height = frames.boxes[outcome.chosen[n]]
            axes.set(xlim=(x, x + width), ylim=(y + height, y), xticks=[], yticks=[])
        row[0].set_ylabel("map of {} x {}".format(*setting.map_size))
    handles, labels = grid[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=4, fontsize=9)
    return figure


def png(figure: Figure, *, dpi: int = 90) -> bytes:
    """The figure as a PNG file."""
    stream = io.BytesIO()
    figure.savefig(stream, format="png", dpi=dpi)
    return stream.getvalue()
