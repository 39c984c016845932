"""Decode stores of heatmaps larger than memory, and keep what is done if a run is interrupted."""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from concurrent.futures import Executor
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import jax
import numpy as np

from dark_jax._codecs.decode import decode
from dark_jax._core import checks, optional
from dark_jax._core.keypoints import Keypoints
from dark_jax._core.version import __version__
from dark_jax._io import atomic, tables
from dark_jax._stores import dask_run, readers, writers
from dark_jax._stores.blocks import cut_into_blocks
from dark_jax._stores.checkpoint import Checkpoint, folder_of
from dark_jax._stores.decoder import Decoder, for_blocks
from dark_jax._stores.job import Job
from dark_jax._stores.readers import Reader, Unread
from dark_jax._stores.writers import Writer

Index = tuple[int, ...]


class UnreadChunksError(RuntimeError):
    """Some chunks of a source cannot be read. All other chunks are decoded and kept.

    Attributes:
        unread: a tuple with one entry for each such chunk: ``path``, ``chunk`` (its index in the
            grid of the array) and ``reason``.
        kept: the folder with the results so far. Maps of chunks that cannot be read are
            ``NOT_FINITE`` there.

    Example:
        >>> import dark_jax, pathlib, tempfile, zarr
        >>> with tempfile.TemporaryDirectory() as name:
        ...     folder = pathlib.Path(name)
        ...     maps = zarr.create_array(
        ...         folder / "maps.zarr", shape=(4, 64, 48), chunks=(2, 64, 48), dtype="float32"
        ...     )
        ...     maps[...] = dark_jax.encode([[20.25, 30.5]] * 4, size=(64, 48))
        ...     _ = (folder / "maps.zarr" / "c" / "1" / "0" / "0").write_bytes(b"damaged")
        ...     try:
        ...         dark_jax.decode_store(folder / "maps.zarr", folder / "keypoints.zarr")
        ...     except dark_jax.UnreadChunksError as error:
        ...         [chunk.chunk for chunk in error.unread]
        ...         zarr.open_group(error.kept)["status"][:].tolist()
        [(1, 0, 0)]
        [0, 0, 1, 1]

    References:
        Zarr's specification, version 3, defines the grid of chunks.
    """

    def __init__(self, unread: list[Unread], kept: Path) -> None:
        self.unread, self.kept = tuple(unread), kept
        super().__init__(
            f"{len(unread)} chunks cannot be read, the first is {unread[0]}; the rest is kept "
            f"in {kept}, to be resumed"
        )

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle the arguments: by default, an exception is rebuilt from its message."""
        return type(self), ([*self.unread], self.kept)


def decode_store(
    source: str | os.PathLike[str],
    target: str | os.PathLike[str],
    *,
    decoder: Callable[..., Keypoints] = decode,
    axes: tuple[int, ...] | None = None,
    key: str | None = None,
    workers: int | None = None,
    scheduler: str | None = None,
    resume: bool = False,
    overwrite: bool = False,
    accept_changed_source: bool = False,
    refuse_missing_chunks: bool = False,
    progress: Callable[[int, int], object] | None = None,
) -> None:
    """Decode a store of heatmaps, which may be larger than memory.

    The store is read in blocks of whole chunks, of about 32 MB or one chunk. Each block is
    decoded and written on its own. Results are collected in ``TARGET.incomplete``, which is
    renamed to TARGET when all results are there. So a TARGET is always complete. Needs the extra
    ``store``.

    Args:
        source: a Zarr array or group (a directory), an HDF5 file, or a ``.npy`` file in C order,
            of real numbers ``[..., H, W]``. Other layouts are described by ``axes``.
        target: a ``.zarr`` group or a ``.parquet`` folder; see the notes.
        decoder: :func:`decode`, :func:`decode_fit`, :func:`decode_peaks`,
            :func:`decode_soft_argmax`, or a ``functools.partial`` of one that binds its
            parameters, such as ``functools.partial(dark_jax.decode_fit, sigma=2.0)``.
        axes: the axes of one map, as for :func:`decode`. The default is that of ``decoder``.
        key: the name or path of an array in a group or an HDF5 file. The default is "heatmaps",
            or the only array, at any depth, that has real numbers and the axes of a map.
        workers: decode in this many processes instead of threads. In a script, call the function
            under ``if __name__ == "__main__":``.
        scheduler: decode on the workers of the dask scheduler at this address, such as
            ``"tcp://host:8786"``. The workers need dark_jax, and must find source and target
            under the same paths.
        resume: continue an unfinished target, if there is one. A complete target is left as it
            is.
        overwrite: replace a target that dark_jax made, after the new one is complete; and discard
            an unfinished one.
        accept_changed_source: with ``resume``, continue although the source looks changed. Use
            this only if the values that are already decoded are the same. Copying a store changes
            its times, and so does repairing a chunk of an HDF5 file.
        refuse_missing_chunks: treat a chunk that is not stored as one that cannot be read. Zarr
            and HDF5 leave out chunks that hold only the fill value, which is mostly zero. By
            default such chunks are read as that value, so their maps are ``NO_PEAK``.
        progress: a function that is called with the number of maps done and of all maps: first at
            the start, then after each block.

    Returns:
        None.

    Notes:
        A ``.zarr`` target is a group with the arrays of :class:`Keypoints`: ``coords``,
        ``scores``, ``status`` (numbers, named by the group's attribute ``status``) and, if the
        decoder estimates it, ``covariance``. A ``.parquet`` target is a folder of tables like
        those of :func:`save`. It is for maps ``[H, W]``, ``[J, H, W]``, ``[B, J, H, W]`` or
        ``[B, I, J, H, W]``. The slots of :func:`decode_peaks` become instances there, for
        ``[B, J, H, W]`` or ``[B, H, W]``, and empty slots have no row. Both targets keep the
        parameters and the version.

        A run that was interrupted, or that could not read a chunk, can be resumed. The result has
        the same bytes as that of one run. A store without maps gives empty results.

        If a parameter differs from map to map, each block takes its part of it. Such a ``sigma``
        needs ``radius`` too. A missing shard of a sharded Zarr array counts as its chunks.

    Raises:
        TypeError: the source does not hold real numbers; ``decoder`` is not one of those above,
            lacks a parameter, or has one of the wrong type or one that cannot be pickled.
        ValueError: a parameter is wrong, as for the decoders; the source is not a store, its maps
            are empty, or ``key`` does not name one of its arrays; source and target contain one
            another; an unfinished target was begun with other parameters or another source; or
            the source has changed since then or during the run, by the size or modification time
            of its files.
        OSError: the source cannot be opened; the target exists, is unfinished, or cannot be
            written; target or ``TARGET.incomplete`` holds something that dark_jax did not make;
            another run is writing it (BlockingIOError); no scheduler answers.
        UnreadChunksError: chunks of the source could not be read. All others are decoded and
            kept. Resume when the chunks are repaired.
        ImportError: a package of the extra ``store`` is not installed.
        RuntimeError: the workers of a cluster died repeatedly.

    Example:
        >>> import dark_jax, numpy, pathlib, tempfile, zarr
        >>> heatmaps = dark_jax.encode([[[20.25, 30.5], [24.0, 18.75]]], size=(64, 48))
        >>> with tempfile.TemporaryDirectory() as name:
        ...     folder = pathlib.Path(name)
        ...     numpy.save(folder / "maps.npy", heatmaps)
        ...     dark_jax.decode_store(folder / "maps.npy", folder / "keypoints.zarr")
        ...     zarr.open_group(folder / "keypoints.zarr")["coords"][:].round(2).tolist()
        [[[20.25, 30.5], [24.0, 18.75]]]

    References:
        Zarr's specification, version 3; Apache Parquet; dask.
    """
    chosen = for_blocks(decoder, axes)
    _check_options(workers, scheduler, resume, overwrite, accept_changed_source)
    checks.flag("refuse_missing_chunks", refuse_missing_chunks)
    if progress is not None:
        checks.function("progress", progress)
    if key is not None and not isinstance(key, str):
        raise TypeError(f"key must be the name or the path of an array, got {key!r}")
    source = checks.path("source", source).absolute()  # valid in any working directory
    target = checks.path("target", target)
    written = _checked_target(source, target)
    chosen.check_pickles()
    with ExitStack() as stack:
        reader = stack.enter_context(readers.opened(source, key=key, dim=len(chosen.axes)))
        kind = writers.KINDS[target.suffix]  # for a link, the suffix of the link itself
        job = _job(source, reader, chosen, kind, written, refuse_missing_chunks)
        checkpoint = job.checkpoint
        stack.enter_context(checkpoint.claimed())
        if not checkpoint.check(
            resume=resume, overwrite=overwrite, accept_changed_source=accept_changed_source
        ):
            executor = None
            if workers is not None or scheduler is not None:
                executor = stack.enter_context(
                    dask_run.cluster(workers=workers, scheduler=scheduler)
                )
            checkpoint.begin(overwrite=overwrite, accept_changed_source=accept_changed_source)
            job.check_unchanged(reader, accept=accept_changed_source)
            _run(job, reader, executor, progress or (lambda done, total: None))
            job.check_unchanged(reader)  # the source may have changed during decoding
        checkpoint.finish()


def _check_options(
    workers: Any, scheduler: Any, resume: bool, overwrite: bool, accept_changed_source: bool
) -> None:
    if workers is not None and scheduler is not None:
        raise ValueError(
            f"give workers or scheduler, not both: got workers={workers}, scheduler={scheduler!r}"
        )
    checks.flag("resume", resume)
    checks.flag("overwrite", overwrite)
    checks.flag("accept_changed_source", accept_changed_source)
    if resume and overwrite:
        raise ValueError("give resume or overwrite, not both: got resume=True, overwrite=True")
    if accept_changed_source and not resume:
        raise ValueError(
            "accept_changed_source=True is only for what is resumed: give resume=True too"
        )
    if workers is not None:
        checks.at_least_one("workers", workers)
    if scheduler is not None and not (isinstance(scheduler, str) and scheduler):
        raise TypeError(
            f"scheduler must be an address, such as 'tcp://host:8786', got {scheduler!r}"
        )


def _checked_target(source: Path, target: Path) -> Path:
    """Return ``target`` with links resolved, after checking that it can be written."""
    atomic.check_target(target, suffixes=tuple(writers.KINDS), option="target", folder_too=True)
    kind = "zarr" if target.suffix == ".zarr" else "pyarrow"
    for module in ("dask", "distributed", "filelock", kind):
        optional.load(module, extra="store")
    read, written = source.resolve(), target.resolve()
    folder = folder_of(written)
    with atomic.writing(folder, cure="choose a shorter name"), suppress(FileNotFoundError):
        folder.lstat()
    for mine in (written, folder):
        if _within(read, mine) or _within(mine, read):
            raise ValueError(
                f"target {target} would overwrite what is read from {source}: source, target and "
                f"{folder.name} must not be the same, or lie in one another"
            )
    return written


def _within(path: Path, folder: Path) -> bool:
    """Return whether ``path`` is ``folder`` or lies in it, even if letter case is ignored."""
    above = (path, *path.parents)
    if folder in above:
        return True
    return folder.exists() and any(each.exists() and each.samefile(folder) for each in above)


def _job(
    source: Path,
    reader: Reader,
    decoder: Decoder,
    kind: type[Writer],
    target: Path,
    refuse_missing_chunks: bool,
) -> Job:
    """Make the job. All checks, including those of the decoder, run before anything is written."""
    checks.real_array(reader.where, np.empty((0,), reader.dtype))
    axes = checks.axes_of(reader.where, reader.shape, decoder.axes)
    checks.map_sides(reader.where, reader.shape, axes)
    grid = cut_into_blocks(reader.shape, reader.dtype.itemsize, reader.chunks, axes)
    native = jax.dtypes.canonicalize_dtype(reader.dtype.newbyteorder("="))
    maps = jax.ShapeDtypeStruct(reader.shape, native)
    shapes = jax.eval_shape(lambda maps: decoder(maps), maps)
    slots = shapes.scores.shape[len(grid.others) :]
    if len(grid.others) + len(slots) >= len(tables.USUAL_DIMS) and kind is writers.ParquetWriter:
        raise ValueError(
            f"{reader.where}: shape {reader.shape} has more axes than [B, I, J] beside the "
            f"maps'{', or than [B, J] beside those of several peaks' if slots else ''}, which a "
            "table does not name; write .zarr"
        )
    about = {
        "source": str(source.resolve()),  # does not depend on the working directory
        "key": reader.key,
        "shape": [*reader.shape],
        "dtype": reader.dtype.name,
        **decoder.about(),
        "blocks": [*grid.size],
        "refuse_missing_chunks": refuse_missing_chunks,
        "coords": shapes.coords.dtype.name,  # float64 if JAX computes in float64
        "dark_jax": __version__,
        "jax": jax.__version__,
    }
    writer = kind(
        grid, np.dtype(shapes.coords.dtype), shapes.covariance is not None, about, slots=slots
    )
    x64 = bool(jax.config.jax_enable_x64)  # pyright: ignore[reportAttributeAccessIssue]
    checkpoint = Checkpoint(target, writer, reader.state())
    return Job(source, reader.key, decoder, x64, refuse_missing_chunks, checkpoint)


def _run(
    job: Job,
    reader: Reader,
    executor: Executor | None,
    progress: Callable[[int, int], object],
) -> None:
    """Decode every block that is not written yet or that lacks a chunk.

    Raises:
        UnreadChunksError: some chunks cannot be read.
    """
    todo, total = job.checkpoint.todo(), math.prod(job.blocks.others)
    done = total - sum(map(job.blocks.maps, todo))
    progress(done, total)

    def tell(count: int) -> None:
        nonlocal done
        done += count
        progress(done, total)

    if executor is not None:
        dask_run.each(executor, job.do, todo, tell)
    else:
        device = jax.config.jax_default_device  # pyright: ignore[reportAttributeAccessIssue]

        def work(index: Index) -> int:
            with jax.default_device(device):  # JAX keeps the caller's choice for one thread only
                return job.do(index, reader)

        # Decode one block first: threads that start together would each compile the decoder.
        for index in todo[:1]:
            tell(work(index))
        with dask_run.threads(size=job.blocks.volume * reader.dtype.itemsize) as pool:
            dask_run.each(pool, work, todo[1:], tell)
    if unread := job.checkpoint.unread():
        raise UnreadChunksError(unread, job.checkpoint.result)
