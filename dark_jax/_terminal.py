"""Print the output of the ``dark-jax`` command on a terminal, and handle Ctrl-C."""

import math
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import click
import numpy as np
from rich import box
from rich import progress as bar
from rich.console import Console
from rich.table import Table as RichTable

from dark_jax._core.keypoints import Status
from dark_jax._io import tables

# The most rows to print: a longer table is better read from a file.
MOST_ROWS = 100
# A narrower table would lose digits; a narrow terminal wraps it instead.
LEAST_WIDTH = 80


@contextmanager
def printing() -> Iterator[None]:
    """Name the standard output in an OSError, such as that of a full disk.

    A closed pipe is not an error: its reader has read enough, and nothing more is written.
    """
    try:
        yield
        sys.stdout.flush()
    except SystemExit:  # rich has found the pipe closed
        pass
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except OSError as error:
        raise OSError(error.errno, error.strerror, "standard output") from error


@contextmanager
def interruptible() -> Iterator[Callable[[], None]]:
    """Yield a function that raises Ctrl-C again: Python loses one that meets a GC callback."""
    usual, pressed = signal.getsignal(signal.SIGINT), []

    def interrupt(number: int, frame: Any) -> None:
        pressed.append(number)
        raise KeyboardInterrupt

    def check() -> None:
        if pressed:
            raise KeyboardInterrupt

    # The parent process may have Ctrl-C ignored, and only the main thread can handle signals.
    ours = threading.current_thread() is threading.main_thread()
    if not ours or usual is not signal.default_int_handler:
        yield check
        return
    signal.signal(signal.SIGINT, interrupt)
    try:
        yield check
    finally:
        signal.signal(signal.SIGINT, usual)


@contextmanager
def progress() -> Iterator[Callable[[int, int], None]]:
    """Show a bar with the rate and the remaining time, unless stderr is not a terminal."""
    console = Console(stderr=True)
    columns = (
        bar.BarColumn(),
        bar.TaskProgressColumn(),
        bar.TextColumn("{task.completed:,.0f} of {task.total:,.0f} maps"),
        bar.TextColumn("{task.fields[rate]:,.0f}/s"),
        bar.TimeRemainingColumn(),
    )
    with bar.Progress(*columns, console=console, disable=not sys.stderr.isatty()) as shown:

        def tell(done: int, total: int) -> None:
            if not shown.tasks:  # earlier maps do not count in the rate
                shown.add_task("", completed=done, total=total, rate=0)
            task = shown.tasks[0]
            shown.update(task.id, completed=done, rate=task.speed or 0)

        yield tell


def show(table: tables.Table, *, named: bool) -> None:
    """Print a table (its first rows if it is long) and the number of refined keypoints."""
    sizes = zip(table.dims, table.scores.shape, strict=True)
    several = [name for name, size in sizes if name != "joint" and size > 1]
    dims = "xyz"[: table.coords.shape[-1]]
    moved = table.moved
    shown = RichTable(box=box.SIMPLE_HEAD, pad_edge=False)
    for name in several:
        shown.add_column(name, justify="right")
    joint = "joint" in table.dims or not table.dims
    if joint:
        shown.add_column("joint", justify="left" if named else "right")
    for name in (*dims, "score"):
        shown.add_column(name, justify="right")
    shown.add_column("status")
    if moved is not None:
        shown.add_column("moved", justify="right")
    for count, row in enumerate(table.rows()):
        if count == MOST_ROWS:
            break
        shown.add_row(
            *(str(row[name]) for name in several),
            *([row["name"] or str(row["joint"])] if joint else []),
            *(_number(row[name], ".3f") for name in dims),
            _number(row["score"], ".4g"),
            row["status"],
            *([] if moved is None else [_number(row["moved"], ".3f")]),
        )
    console = Console()
    console.width = max(console.width, LEAST_WIDTH)
    console.print(shown)
    rows = int(np.sum(table.kept))
    if rows > MOST_ROWS:
        console.print(f"... and {rows - MOST_ROWS} more; -o writes them all")
    refined = table.status == Status.REFINED
    mean = ""
    if moved is not None and refined.any():
        mean = f", {moved[refined].mean():.3f} px from argmax on average"
    console.print(f"{refined.sum()} of {rows} keypoints refined{mean}")


def warn(count: Callable[..., int], shape: tuple[int, ...], axes: tuple[int, ...]) -> None:
    """Warn of a probable cause if most keypoints are BORDER or NO_PEAK, or NOT_CONCAVE.

    Args:
        count: returns how many keypoints have one of the statuses given to it.
        shape: the shape of the array in the file.
        axes: the axes of a map in this array.
    """
    sides = [shape[axis] for axis in axes]
    total = math.prod(shape) // math.prod(sides)
    lost, side = count(Status.BORDER, Status.NO_PEAK), " x ".join(map(str, sides))
    if 2 * lost > total:
        click.echo(
            f"dark-jax: {lost} of {total} keypoints are BORDER or NO_PEAK: shape {shape} was read "
            f"as {total} maps of {side}; if the maps lie along other axes, name them with --axes, "
            "such as -3,-2 for channels last",
            err=True,
        )
    elif 2 * (flat := count(Status.NOT_CONCAVE)) > total:
        click.echo(
            f"dark-jax: {flat} of {total} keypoints are NOT_CONCAVE: if the maps are logits, apply "
            "a sigmoid first",
            err=True,
        )


def _number(value: float | None, layout: str) -> str:
    return "" if value is None else format(value, layout)
