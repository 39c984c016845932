"""The ``dark-jax`` command."""

import dataclasses
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click
import numpy as np
from rich import box
from rich import progress as bar
from rich.console import Console
from rich.table import Table as RichTable

import dark_jax
from dark_jax import plot, rules, samples
from dark_jax._codecs.integer_peaks import integer_peaks
from dark_jax._core import checks
from dark_jax._core.keypoints import Status
from dark_jax._io import atomic, heatmap_files, tables
from dark_jax._stores import readers, writers
from dark_jax._stores.decoder import Decoder

# A longer table is for a file, not for eyes.
MOST_ROWS = 100
# Narrower, a table loses digits; a terminal wraps it instead.
LEAST_WIDTH = 80


def run(args: list[str] | None = None) -> int:
    """Run the command; its exit status: 0, or 2 after one line on stderr.

    1 where a store lacks chunks, after a line for each.
    """
    args = sys.argv[1:] if args is None else args
    try:
        app.main(args or ["--help"], prog_name="dark-jax", standalone_mode=False)
    except click.exceptions.Abort:
        return 130
    except dark_jax.UnreadChunksError as error:
        for chunk in error.unread:
            click.echo(f"dark-jax: {chunk}", err=True)
        click.echo(f"dark-jax: the rest is kept in {error.kept}; --resume goes on", err=True)
        return 1
    except click.ClickException as error:
        message = error.format_message()
    except (ValueError, TypeError, ImportError) as error:
        message = str(error)
    except OSError as error:
        told = error.strerror is not None and error.filename is not None
        message = f"{error.filename}: {error.strerror}" if told else str(error)
    except MemoryError as error:
        message = f"not enough memory: {error}"
    except RuntimeError as error:  # a symbolic link to itself, an allocation JAX refused
        message = str(error)
    else:
        return 0
    click.echo("dark-jax: " + _with_options(" ".join(message.split())), err=True)
    return 2


def _with_options(message: str) -> str:
    """What Python's arguments are called here: ``overwrite=True`` is ``--overwrite``."""
    for option in decode.params:
        if isinstance(option, click.Option):
            message = message.replace(f"{option.name}=True", option.opts[-1])
    return message


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(dark_jax.__version__, prog_name="dark-jax")
def app() -> None:
    """Keypoint heatmaps to sub-pixel coordinates."""


@app.command()
@click.argument("source", required=False, type=click.Path(path_type=Path))
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    help=f"Write the keypoints; the suffix chooses: {', '.join(tables.SUFFIXES)}; of a store: "
    f"{', '.join(writers.KINDS)}.",
)
@click.option(
    "--axes", help="The axes of a map, such as -3,-2 for channels-last.  [default: -2,-1]"
)
@click.option(
    "--rule",
    type=click.Choice([rule.name for rule in (rules.GUARDED, *rules.PUBLISHED)]),
    default=rules.GUARDED.name,
    help="Whose decoder.  [default: GUARDED]",
    metavar="NAME",
)
@click.option(
    "--kernel-size",
    type=int,
    help=f"Odd blur size.  [default: the rule's, {rules.GUARDED.kernel_size}]",
)
@click.option("--sigma", type=float, help="Blur with a true Gaussian of this many pixels instead.")
@click.option("--fit", is_flag=True, help="Fit Gaussians of this --sigma, with a covariance.")
@click.option(
    "--overlay",
    type=click.Path(path_type=Path),
    help="Write a PNG of argmax and DARK on the photo, or on the maps.",
)
@click.option(
    "--image",
    type=click.Path(path_type=Path),
    help="The photo behind the overlay; heatmap pixel i covers its pixels S i to S i + S - 1.",
)
@click.option("--stride", type=float, help="S, photo pixels per heatmap pixel.")
@click.option("--key", help="Which array of several.  [default: heatmaps, else the only one]")
@click.option("--workers", type=int, help="Store: decode in this many processes, not in threads.")
@click.option("--scheduler", help="Store: decode on this dask cluster, such as tcp://host:8786.")
@click.option("--resume", is_flag=True, help="Store: go on where a run has ended.")
@click.option("--overwrite", is_flag=True, help="Store: replace the target, once all is done.")
@click.option(
    "--accept-changed-source",
    is_flag=True,
    help="Store: with --resume, go on although the source's times or size have changed; only if "
    "its values are the same, as after copying it.",
)
@click.option(
    "--refuse-missing-chunks",
    is_flag=True,
    help="Store: treat a chunk that is not stored as unreadable, not as the fill value (zeros).",
)
def decode(
    source: Path | None,
    output: Path | None,
    axes: str | None,
    rule: str,
    kernel_size: int | None,
    sigma: float | None,
    fit: bool,
    overlay: Path | None,
    image: Path | None,
    stride: float | None,
    key: str | None,
    **store_options: Any,
) -> None:
    """Decode heatmaps to sub-pixel keypoints and print them, or write those of a store.

    SOURCE is a .npy or .npz of shape [H, W], [J, H, W] or [B, J, H, W]; without it, the
    sample that comes with the package: a real network's maps of a photograph.

    A store is a Zarr directory or an HDF5 file, or a .npy with a .zarr target or one of the
    options for stores. It is decoded block by block, whatever its size; TARGET.incomplete
    keeps what is done until all is. Where chunks cannot be read, they are named and the exit
    status is 1.
    """
    decoder = _decoder(axes, rule, kernel_size, sigma, fit)
    asked = any(store_options.values()) or store_options["workers"] is not None
    if source is not None and _is_store(source, output, asked=asked):
        for option, value in (("--overlay", overlay), ("--image", image), ("--stride", stride)):
            if value is not None:
                raise ValueError(f"{option} is for maps that fit memory, {source} is a store")
        _decode_store(source, output, decoder, key=key, **store_options)
        return
    if asked:
        option = next(name for name, value in store_options.items() if value not in (None, False))
        raise ValueError(f"--{option.replace('_', '-')} needs a SOURCE that is a store")
    _check_targets((source, image), output, overlay)
    _check_photo_options(source, overlay, image, stride, key)

    photo, joints = None, None
    if source is None:
        heatmaps, photo, stride, joints = samples.load()
    else:
        heatmaps = heatmap_files.read_heatmaps(source, key=key, axes=decoder.axes)
    dim = len(decoder.axes)
    if dim != 2 and overlay is not None:
        raise ValueError(f"--overlay draws maps of two axes, not of --axes {axes}")
    if image is not None and stride is not None:
        photo = _photo(image, stride, heatmaps.shape)

    leading = heatmaps.shape[:-dim]
    maps = heatmaps[(None,) * (2 - len(leading))]
    keypoints = dataclasses.replace(decoder, axes=tuple(range(-dim, 0)))(maps)
    table = _table(keypoints, maps, joints)
    contents: dict[Path, bytes] = {}
    if output is not None:
        about = {
            "source": "sample" if source is None else str(source),
            "dark_jax": dark_jax.__version__,
            **decoder.about(),
        }
        contents[output] = tables.file_contents(table, output, about=about, shape=leading)
    if overlay is not None:
        contents[overlay] = plot.overlay(
            keypoints, heatmaps=maps, photo=photo, stride=stride or 1.0
        )
    atomic.write_together(contents)
    _show(table, named=joints is not None)
    for path in contents:
        click.echo(f"wrote {path}")


def _decoder(
    axes: str | None, rule: str, kernel_size: int | None, sigma: float | None, fit: bool
) -> Decoder:
    if kernel_size is not None and sigma is not None:
        raise ValueError("--kernel-size and --sigma exclude each other")
    if fit and (sigma is None or kernel_size is not None or rule != rules.GUARDED.name):
        raise ValueError("--fit needs --sigma, and excludes --rule")
    if sigma is not None:
        checks.positive("--sigma", sigma)
    if kernel_size is not None:
        checks.odd_kernel("--kernel-size", kernel_size)
    return Decoder(_axes(axes), getattr(rules, rule), kernel_size, sigma, fit)


def _axes(text: str | None) -> tuple[int, ...]:
    try:
        axes = (-2, -1) if text is None else tuple(int(axis) for axis in text.split(","))
    except ValueError:
        raise ValueError(f"--axes must be integers with commas between, got {text!r}") from None
    return checks.map_axes("--axes", axes)


def _is_store(source: Path, output: Path | None, *, asked: bool) -> bool:
    whole = source.suffix in (".npy", ".npz")
    return not whole or asked or (output is not None and output.suffix == ".zarr")


def _decode_store(
    source: Path, output: Path | None, decoder: Decoder, *, key: str | None, **store_options: Any
) -> None:
    if output is None or output.suffix not in writers.KINDS:
        with readers.opened(source, key=key):  # what is no store comes before what a store needs
            pass
        raise ValueError(
            f"{source} is decoded as a store: --output must end in {', '.join(writers.KINDS)}"
            f"{'' if output is None else f', got {str(output)!r}'}"
        )
    options = vars(decoder) | store_options
    try:
        with _progress() as progress, _interruptible() as check:

            def tell(done: int, total: int) -> None:
                check()
                progress(done, total)

            dark_jax.decode_store(source, output, key=key, progress=tell, **options)
    except KeyboardInterrupt:
        click.echo("dark-jax: interrupted; --resume goes on", err=True)
        raise click.exceptions.Abort from None
    click.echo(f"wrote {output}")


@contextmanager
def _interruptible() -> Iterator[Callable[[], None]]:
    """Ctrl-C, and a function that raises it again: Python loses one that meets a GC callback."""
    usual, pressed = signal.getsignal(signal.SIGINT), []

    def interrupt(number: int, frame: Any) -> None:
        pressed.append(number)
        raise KeyboardInterrupt

    def check() -> None:
        if pressed:
            raise KeyboardInterrupt

    # Whoever started us may want it ignored; and a thread has no signals.
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
def _progress() -> Iterator[Callable[[int, int], None]]:
    """A bar with the rate and the time that is left; nothing where stderr is no terminal."""
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
            if not shown.tasks:  # what was done before is no speed
                shown.add_task("", completed=done, total=total, rate=0)
            task = shown.tasks[0]
            shown.update(task.id, completed=done, rate=task.speed or 0)

        yield tell


def _check_targets(
    inputs: tuple[Path | None, ...], output: Path | None, overlay: Path | None
) -> None:
    if output is not None:
        atomic.check_target(output, suffixes=tables.SUFFIXES, option="--output")
    if overlay is not None:
        atomic.check_target(overlay, suffixes=(".png",), option="--overlay")
    read = {path.resolve() for path in inputs if path is not None}
    for option, target in (("--output", output), ("--overlay", overlay)):
        if target is not None and target.resolve() in read:
            raise ValueError(f"{option} {target} would overwrite what is read from it")


def _check_photo_options(
    source: Path | None,
    overlay: Path | None,
    image: Path | None,
    stride: float | None,
    key: str | None,
) -> None:
    for option, value in (("--image", image), ("--stride", stride), ("--key", key)):
        if value is not None and source is None:
            raise ValueError(f"{option} needs a SOURCE: the sample brings its own")
    if (image is None) != (stride is None):
        raise ValueError("--image and --stride go together")
    if image is not None and overlay is None:
        raise ValueError("--image is for an --overlay, which is not asked for")
    if stride is not None:
        checks.positive("--stride", stride)


def _photo(path: Path, stride: float, shape: tuple[int, ...]) -> np.ndarray:
    if len(shape) == 4 and shape[0] != 1:
        raise ValueError(f"--image shows one image, but the heatmaps are of {shape[0]}")
    photo = plot.read_photo(path)
    covered = tuple(side * stride for side in shape[-2:])
    # Networks pad or cut an input whose side is no multiple of their stride.
    if any(abs(have - need) >= stride for have, need in zip(photo.shape, covered, strict=False)):
        raise ValueError(
            f"--image {path} is {photo.shape[1]} x {photo.shape[0]}, but heatmaps of "
            f"{shape[-1]} x {shape[-2]} at stride {stride:g} cover {covered[1]:g} x {covered[0]:g}"
        )
    return photo


def _table(
    keypoints: dark_jax.Keypoints, maps: np.ndarray, joints: tuple[str, ...] | None
) -> tables.Table:
    peaks, _ = integer_peaks(checks.real_array("heatmaps", maps), axes=tuple(range(2, maps.ndim)))
    refined = np.asarray(keypoints.status == Status.REFINED)[..., None]
    peaks = np.where(refined, peaks, keypoints.coords)
    return tables.make_table(keypoints, axes=("image", "joint"), joints=joints, peaks=peaks)


def _show(table: tables.Table, *, named: bool) -> None:
    several = len(table.scores) > 1
    dims = "xyz"[: table.coords.shape[-1]]
    moved = table.moved
    shown = RichTable(box=box.SIMPLE_HEAD, pad_edge=False)
    if several:
        shown.add_column("image", justify="right")
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
            *([str(row["image"])] if several else []),
            row["name"] or str(row["joint"]),
            *(_number(row[name], ".3f") for name in dims),
            _number(row["score"], ".4g"),
            row["status"],
            *([] if moved is None else [_number(row["moved"], ".3f")]),
        )
    console = Console()
    console.width = max(console.width, LEAST_WIDTH)
    console.print(shown)
    if table.scores.size > MOST_ROWS:
        console.print(f"... and {table.scores.size - MOST_ROWS} more; -o writes them all")
    refined = table.status == Status.REFINED
    mean = ""
    if moved is not None and refined.any():
        mean = f", {moved[refined].mean():.3f} px from argmax on average"
    console.print(f"{refined.sum()} of {refined.size} keypoints refined{mean}")


def _number(value: float | None, layout: str) -> str:
    return "" if value is None else format(value, layout)
