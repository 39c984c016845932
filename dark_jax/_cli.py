"""The ``dark-jax`` command."""

import dataclasses
import functools
import io
import re
import sys
from pathlib import Path
from typing import Any

import click
import numpy as np

import dark_jax
from dark_jax import _terminal, plot, samples
from dark_jax._codecs.integer_peaks import integer_peaks
from dark_jax._core import checks
from dark_jax._decoder_options import decoder_options, take_decoder
from dark_jax._io import atomic, heatmap_files, tables
from dark_jax._stores import readers, writers
from dark_jax._stores.decoder import Decoder

# A pattern for the value of an argument in an error message.
VALUE = r"('[^']*'|\"[^\"]*\"|\([^)]*\)|[\w.+-]+)"


def run(args: list[str] | None = None) -> int:
    """Run the command and return its exit status: 0, or 2 after one line on stderr.

    The status is 1 after one line for each chunk of a store that could not be read.
    """
    args = sys.argv[1:] if args is None else args
    try:
        app.main(args or ["--help"], prog_name="dark-jax", standalone_mode=False)
    except click.exceptions.Abort:
        return 130
    except SystemExit:  # click raises it for any broken pipe
        message = "a pipe was closed at its other end"
    except dark_jax.UnreadChunksError as error:
        for chunk in error.unread:
            click.echo(f"dark-jax: {chunk}", err=True)
        click.echo(
            f"dark-jax: the other results are in {error.kept}; repair the chunks, then continue "
            "with --resume",
            err=True,
        )
        return 1
    except click.ClickException as error:
        message = error.format_message()
    except OSError as error:
        message = _with_options(str(error))
        if error.strerror is not None and error.filename is not None:
            message = f"{error.filename}: {_with_options(error.strerror)}"
    except MemoryError as error:
        message = f"not enough memory: {error}"
    # RuntimeError means that JAX refused an allocation, or that a cluster is gone.
    except (ValueError, TypeError, ImportError, RuntimeError) as error:
        message = _with_options(str(error))
    else:
        return 0
    click.echo("dark-jax: " + re.sub(r"\s*\n\s*", " ", message), err=True)
    return 2


def _with_options(message: str) -> str:
    """Replace Python's arguments by options, such as ``overwrite=True`` by ``--overwrite``."""
    options = {
        option.name: option.opts[-1] for option in decode.params if isinstance(option, click.Option)
    }
    message = re.sub("^target(?= )", options["output"], message)
    for name, option in options.items():
        # An argument is found at the beginning of a message, in a cure, or before "=".
        names = rf"^{name}(?= must )|(?<=give ){name}\b|(?<= or ){name}(?=, not both)"
        message = re.sub(rf"(^|(?<=[ (])){name}=True(?![\w./])", option, message)
        message = re.sub(names, option, message)
        message = re.sub(rf"(^|(?<=[ (])){name}=(?={VALUE}([,;) ]|$))", f"{option} ", message)
    return message


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(dark_jax.__version__, prog_name="dark-jax")
def app() -> None:
    """Keypoint heatmaps to sub-pixel coordinates."""


@app.command(short_help="Decode heatmaps to sub-pixel keypoints.")
@click.argument("source", required=False, type=click.Path(path_type=Path))
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    help=f"Write the keypoints to a file: {', '.join(tables.SUFFIXES)}. An existing file is "
    f"replaced. For a store: {', '.join(writers.KINDS)}; see --overwrite.",
)
@click.option(
    "--axes", help="The axes of one map, such as -3,-2 for channels-last.  [default: -2,-1]"
)
@decoder_options
@click.option(
    "--overlay",
    type=click.Path(path_type=Path),
    help="Draw integer peaks and points on the photo, or on the maps, into this PNG file.",
)
@click.option(
    "--image",
    type=click.Path(path_type=Path),
    help="The photo for --overlay. Heatmap pixel i covers its pixels S i to S i + S - 1.",
)
@click.option("--stride", type=float, help="S, the photo pixels for each heatmap pixel.")
@click.option(
    "--key",
    help="The name of an array in SOURCE, such as pred/maps.  [default: heatmaps, or the only "
    "array that can hold maps]",
)
@click.option(
    "--workers", type=int, help="Store: decode in this many processes instead of threads."
)
@click.option("--scheduler", help="Store: decode on this dask cluster, such as tcp://host:8786.")
@click.option("--resume", is_flag=True, help="Store: continue an unfinished run.")
@click.option(
    "--overwrite", is_flag=True, help="Store: replace the target, after the new one is complete."
)
@click.option(
    "--accept-changed-source",
    is_flag=True,
    help="Store: with --resume, continue although the times or size of the source have changed. "
    "Its values must be the same, as after copying it.",
)
@click.option(
    "--refuse-missing-chunks",
    is_flag=True,
    help="Store: treat a chunk that is not stored as unreadable, not as zeros (the fill value).",
)
def decode(
    source: Path | None,
    output: Path | None,
    axes: str | None,
    decoder: str,
    overlay: Path | None,
    image: Path | None,
    stride: float | None,
    key: str | None,
    **options: Any,
) -> None:
    """Decode heatmaps to sub-pixel keypoints, and print them or write them to a file.

    SOURCE is a .npy or .npz file of shape [H, W], [J, H, W], [B, J, H, W] or [B, I, J, H, W]
    (B images, I instances, J joints), or a store. Without SOURCE, the sample of the package is
    decoded: the maps of a real network for a photograph.

    The columns of a table: image, instance and joint count from 0. name is the name of the joint.
    x and y are in heatmap pixels, and the centre of the first pixel is 0. score is the maximum of
    the map. status is REFINED, or the reason why the keypoint is not refined. cxx, cxy and cyy
    are the covariance in pixels squared, with --covariance or --decoder fit. moved is the
    distance from the integer peak; tables of a store and of --decoder peaks do not have it. The
    peaks of a map are instances with --decoder peaks. SOURCE is then [H, W], [B, H, W] or
    [B, J, H, W].

    A store is a Zarr directory or an HDF5 file. A .npy file counts as a store if --output ends in
    .zarr, or if an option for stores is given. A store is decoded block by block, so it may be
    larger than memory. Unfinished results are kept in PATH.incomplete, beside the PATH of
    --output. Chunks that cannot be read are named, and the exit status is then 1.
    """
    chosen = take_decoder(decoder, options, axes=_axes(axes))
    given = (name for name, value in options.items() if value not in (None, False))
    asked = [f"--{name.replace('_', '-')}" for name in given]
    if source is not None and _is_store(source, output, asked=bool(asked)):
        for option, value in (("--overlay", overlay), ("--image", image), ("--stride", stride)):
            if value is not None:
                raise ValueError(f"{option} is for maps that fit memory, {source} is a store")
        target = _target_of_store(source, output, chosen, key=key, asked=asked)
        _decode_store(source, target, chosen, key=key, **options)
        return
    if asked:
        got = "" if source is None else f", got {source}"
        raise ValueError(f"{asked[0]} needs a SOURCE that is a store: {readers.SOURCES}{got}")
    _check_targets((source, image), output, overlay)
    _check_photo_options(source, overlay, image, stride, key)
    _decode_maps(source, output, chosen, overlay=overlay, image=image, stride=stride, key=key)


def _decode_maps(
    source: Path | None,
    output: Path | None,
    decoder: Decoder,
    *,
    overlay: Path | None,
    image: Path | None,
    stride: float | None,
    key: str | None,
) -> None:
    photo, joints = None, None
    if source is None:
        heatmaps, photo, stride, joints = samples.load()
    else:
        heatmaps = heatmap_files.read_heatmaps(source, key=key, axes=decoder.axes)
    axes = tuple(range(-len(decoder.axes), 0))
    others = heatmaps.ndim - len(axes)
    slots = decoder.function is dark_jax.decode_peaks
    if slots and others == 3:
        raise ValueError(
            f"--decoder peaks takes maps of images and joints at most, got shape {heatmaps.shape}"
        )
    if overlay is not None and (len(axes) != 2 or others > 2 or slots):
        raise ValueError(
            "--overlay needs heatmaps [H, W], [J, H, W] or [B, J, H, W] and a decoder of one "
            f"keypoint for each map, got {len(axes)} axes of a map, {others} others"
            f"{' and --decoder peaks' if slots else ''}"
        )
    if image is not None and stride is not None:
        photo = _photo(image, stride, heatmaps.shape)

    keypoints = dataclasses.replace(decoder, axes=axes)(heatmaps)
    table = _table(keypoints, heatmaps, axes, joints)
    contents: dict[Path, bytes] = {}
    if output is not None:
        about = {
            "source": "sample" if source is None else str(source),
            "dark_jax": dark_jax.__version__,
            **decoder.about(),
        }
        contents[output] = tables.file_contents(table, output, about=about)
    if overlay is not None:
        one = (None,) * (1 - others)  # a single map is that of one joint
        figure = plot.overlay(
            keypoints[one], heatmaps=heatmaps[one], photo=photo, stride=stride or 1.0
        )
        figure.savefig(picture := io.BytesIO(), format="png")
        contents[overlay] = picture.getvalue()
    atomic.write_together(contents)
    with _terminal.printing():
        _terminal.show(table, named=joints is not None)
        for path in contents:
            click.echo(f"wrote {path}")
    shape = np.moveaxis(heatmaps, axes, decoder.axes).shape  # the shape in the file
    if not slots:  # most slots are empty
        _terminal.warn(
            lambda *statuses: int(np.isin(table.status, statuses).sum()), shape, decoder.axes
        )


def _axes(text: str | None) -> tuple[int, ...]:
    try:
        axes = (-2, -1) if text is None else tuple(int(axis) for axis in text.split(","))
    except ValueError:
        raise ValueError(f"--axes must be integers with commas between, got {text!r}") from None
    return checks.map_axes("--axes", axes)


def _is_store(source: Path, output: Path | None, *, asked: bool) -> bool:
    """Return whether ``source`` is decoded as a store: a ``.npy`` only if options ask for it."""
    zarr = output is not None and output.suffix == ".zarr"
    if source.suffix == ".npz" and zarr:
        raise ValueError(
            f"--output must end in {', '.join(tables.SUFFIXES)} where SOURCE is a .npz file, got "
            f"{str(output)!r}; save the array as .npy for a .zarr"
        )
    if source.suffix == ".npz":
        return False
    if not readers.is_store(source):
        raise ValueError(f"SOURCE must be a .npz file, {readers.SOURCES}, got {source}")
    return source.suffix != ".npy" or asked or zarr


def _target_of_store(
    source: Path, output: Path | None, decoder: Decoder, *, key: str | None, asked: list[str]
) -> Path:
    """Return the target. An unreadable source is reported before a target that does not fit."""
    with readers.opened(source, key=key, dim=len(decoder.axes)):
        pass
    if output is None or output.suffix not in writers.KINDS:
        why = f" with {asked[0]}" if source.suffix == ".npy" and asked else ""
        raise ValueError(
            f"{source} is decoded as a store{why}: --output must end in "
            f"{', '.join(writers.KINDS)}, got {'none' if output is None else repr(str(output))}"
        )
    return output


def _decode_store(
    source: Path, output: Path, decoder: Decoder, *, key: str | None, **store_options: Any
) -> None:
    try:
        with _terminal.progress() as progress, _terminal.interruptible() as check:

            def tell(done: int, total: int) -> None:
                check()
                progress(done, total)

            dark_jax.decode_store(
                source,
                output,
                decoder=functools.partial(decoder.function, **decoder.parameters),
                axes=decoder.axes,
                key=key,
                progress=tell,
                **store_options,
            )
    except KeyboardInterrupt:
        click.echo("dark-jax: interrupted; continue with --resume", err=True)
        raise click.exceptions.Abort from None
    with _terminal.printing():
        click.echo(f"wrote {output}")
    slots = decoder.function is dark_jax.decode_peaks  # most slots are empty
    if not slots and (about := writers.read_about(output)) is not None:
        writer = writers.KINDS[output.suffix]
        _terminal.warn(
            lambda *statuses: writer.count(output, statuses), tuple(about["shape"]), decoder.axes
        )


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
        missing = "--stride" if stride is None else "--image"
        raise ValueError(f"--image and --stride go together, got no {missing}")
    if image is not None and overlay is None:
        raise ValueError("--image is for an --overlay, which is not asked for")
    if stride is not None:
        checks.positive("--stride", stride)


def _photo(path: Path, stride: float, shape: tuple[int, ...]) -> np.ndarray:
    if len(shape) == 4 and shape[0] != 1:
        raise ValueError(f"--image shows one image, but the heatmaps are of {shape[0]}")
    photo = plot.read_photo(path)
    covered = tuple(side * stride for side in shape[-2:])
    # Networks pad or cut an input whose side is not a multiple of their stride.
    if any(abs(have - need) >= stride for have, need in zip(photo.shape, covered, strict=False)):
        raise ValueError(
            f"--image {path} is {photo.shape[1]} x {photo.shape[0]}, but heatmaps of "
            f"{shape[-1]} x {shape[-2]} at stride {stride:g} cover {covered[1]:g} x {covered[0]:g}"
        )
    return photo


def _table(
    keypoints: dark_jax.Keypoints,
    maps: np.ndarray,
    axes: tuple[int, ...],
    joints: tuple[str, ...] | None,
) -> tables.Table:
    others = maps.ndim - len(axes)
    if keypoints.scores.ndim > others:  # several peaks a map
        dims = tables.SLOT_DIMS[others + 1]
        return tables.make_table(keypoints, dims=dims, joints=joints, empty_slots=False)
    found = range(maps.ndim + axes[0], maps.ndim)
    peaks, _ = integer_peaks(checks.real_array("heatmaps", maps), axes=tuple(found))
    refined = np.asarray(keypoints.refined)[..., None]
    peaks = np.where(refined, peaks, keypoints.coords)
    dims = tables.USUAL_DIMS[others]
    return tables.make_table(keypoints, dims=dims, joints=joints, peaks=peaks)
