"""The ``dark-jax`` command."""

import sys
from pathlib import Path
from typing import Any

import click
import numpy as np
from rich import box
from rich.console import Console
from rich.table import Table as RichTable

import dark_jax
from dark_jax import checks, files, plot, rules, samples, tables
from dark_jax.keypoints import Status

# A longer table is for a file, not for eyes.
MOST_ROWS = 100
# Narrower, a table loses digits; a terminal wraps it instead.
LEAST_WIDTH = 80


def run(args: list[str] | None = None) -> int:
    """Run the command; its exit status: 0, or 2 after one line on stderr."""
    args = sys.argv[1:] if args is None else args
    try:
        app.main(args or ["--help"], prog_name="dark-jax", standalone_mode=False)
    except click.exceptions.Abort:
        return 130
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
    click.echo("dark-jax: " + " ".join(message.split()), err=True)
    return 2


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
    help=f"Write the keypoints; the suffix chooses: {', '.join(tables.SUFFIXES)}.",
)
@click.option(
    "--kernel-size",
    type=int,
    help=f"Odd blur size, OpenCV's coefficients.  [default: {rules.GUARDED.kernel_size}]",
)
@click.option("--sigma", type=float, help="Blur with a true Gaussian of this many pixels instead.")
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
@click.option("--key", help="Which array of an .npz.  [default: heatmaps, else the only one]")
def decode(
    source: Path | None,
    output: Path | None,
    kernel_size: int | None,
    sigma: float | None,
    overlay: Path | None,
    image: Path | None,
    stride: float | None,
    key: str | None,
) -> None:
    """Decode heatmaps to sub-pixel keypoints and print them.

    SOURCE is a .npy or .npz of shape [H, W], [J, H, W] or [B, J, H, W]; without it, the
    sample that comes with the package: a real network's maps of a photograph.
    """
    blur = _blur(kernel_size, sigma)
    _check_targets((source, image), output, overlay)
    _check_photo_options(source, overlay, image, stride, key)

    photo, joints = None, None
    if source is None:
        heatmaps, photo, stride, joints = samples.load()
    else:
        heatmaps = files.read_heatmaps(source, key=key)
    if image is not None and stride is not None:
        photo = _photo(image, stride, heatmaps.shape)

    table = _decode(heatmaps, blur, joints)
    contents: dict[Path, bytes] = {}
    if output is not None:
        about = {
            "source": "sample" if source is None else str(source),
            "dark_jax": dark_jax.__version__,
            **blur,
        }
        contents[output] = tables.results(table, output, about=about, shape=heatmaps.shape[:-2])
    if overlay is not None:
        maps = heatmaps.reshape(*table.scores.shape, *heatmaps.shape[-2:])
        contents[overlay] = plot.overlay(table, heatmaps=maps, photo=photo, stride=stride or 1.0)
    files.write_together(contents)
    _show(table, named=joints is not None)
    for path in contents:
        click.echo(f"wrote {path}")


def _blur(kernel_size: int | None, sigma: float | None) -> dict[str, Any]:
    if kernel_size is not None and sigma is not None:
        raise ValueError("--kernel-size and --sigma exclude each other")
    if sigma is not None:
        return {"sigma": checks.positive("--sigma", sigma)}
    size = rules.GUARDED.kernel_size if kernel_size is None else kernel_size
    return {"kernel_size": checks.odd_kernel("--kernel-size", size)}


def _check_targets(
    inputs: tuple[Path | None, ...], output: Path | None, overlay: Path | None
) -> None:
    if output is not None:
        files.check_target(output, suffixes=tables.SUFFIXES, option="--output")
    if overlay is not None:
        files.check_target(overlay, suffixes=(".png",), option="--overlay")
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


def _decode(
    heatmaps: np.ndarray, blur: dict[str, Any], joints: tuple[str, ...] | None
) -> tables.Table:
    while heatmaps.ndim < 4:
        heatmaps = heatmaps[None]
    keypoints = dark_jax.decode(heatmaps, **blur)
    peaks, _ = dark_jax.get_max_preds(heatmaps)
    refined = np.asarray(keypoints.status == Status.REFINED)[..., None]
    return tables.table(
        keypoints,
        axes=("image", "joint"),
        joints=joints,
        peaks=np.where(refined, peaks, keypoints.coords),
    )


def _show(table: tables.Table, *, named: bool) -> None:
    several = len(table.scores) > 1
    shown = RichTable(box=box.SIMPLE_HEAD, pad_edge=False)
    if several:
        shown.add_column("image", justify="right")
    shown.add_column("joint", justify="left" if named else "right")
    for name in ("x", "y", "score"):
        shown.add_column(name, justify="right")
    shown.add_column("status")
    shown.add_column("moved", justify="right")
    for count, row in enumerate(table.rows()):
        if count == MOST_ROWS:
            break
        shown.add_row(
            *([str(row["image"])] if several else []),
            row["name"] or str(row["joint"]),
            *(_number(row[name], ".3f") for name in ("x", "y")),
            _number(row["score"], ".4g"),
            row["status"],
            _number(row["moved"], ".3f"),
        )
    console = Console()
    console.width = max(console.width, LEAST_WIDTH)
    console.print(shown)
    if table.scores.size > MOST_ROWS:
        console.print(f"... and {table.scores.size - MOST_ROWS} more; -o writes them all")
    refined = table.status == Status.REFINED
    moved = table.moved
    mean = ""
    if moved is not None and refined.any():
        mean = f", {moved[refined].mean():.3f} px from argmax on average"
    console.print(f"{refined.sum()} of {refined.size} keypoints refined{mean}")


def _number(value: float | None, layout: str) -> str:
    return "" if value is None else format(value, layout)
