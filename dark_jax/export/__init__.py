"""One artefact of a compiled function, for servers that have JAX but not this package.

An artefact is a zip of two members, stored plainly: ``about.json``, which says what is in it and
what made it, and ``function.jax_export``, what ``jax.export`` serialises. The zip's checksums
tell a damaged file from a whole one. Where dark_jax is not installed, the standard library
and JAX (with ``flatbuffers``) read it::

    serialized = zipfile.ZipFile("decode.zip").read("function.jax_export")
    decode = jax.jit(jax.export.deserialize(bytearray(serialized)).call)
    decode(heatmaps)["coords"]

As with any program, run only artefacts whose origin you trust.

- ``PLATFORMS``: what an artefact is for if nothing is said
- ``FORMAT``: the number of the zip's layout; a reader refuses a higher one
"""

from __future__ import annotations

import contextlib
import functools
import inspect
import io
import json
import zipfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.export
import numpy as np
from jax.typing import DTypeLike

import dark_jax
from dark_jax._core import checks
from dark_jax._core import optional as extras
from dark_jax._core.keypoints import Keypoints
from dark_jax._io import atomic as files

__all__ = [
    "FORMAT",
    "PLATFORMS",
    "Artefact",
    "export_decode",
    "export_function",
    "load",
    "save",
]

PLATFORMS = ("cpu", "cuda", "tpu")
_KNOWN_PLATFORMS = (*PLATFORMS, "rocm")
FORMAT = 1

_ABOUT, _FUNCTION = "about.json", "function.jax_export"


def export_decode(
    *,
    size: tuple[int, ...],
    joints: int | None = None,
    platforms: tuple[str, ...] = PLATFORMS,
    decoder: Callable[..., Keypoints] = dark_jax.decode,
    axes: tuple[int, ...] = (-2, -1),
    dtype: DTypeLike = np.float32,
    **options: Any,
) -> bytes:
    """A decoder of maps of one size as an artefact: any batch, every platform.

    It gives what ``jax.jit(decoder)`` gives, on the CPU bit for bit (a fit's covariance within
    rounding), as a plain dictionary of arrays. It runs under ``jit``, inside ``shard_map`` and
    on a sharded batch; it has no gradient and no ``vmap``, and refuses an empty batch.

    Args:
        size: ``(H, W)`` of the maps (``(W,)``, ``(D, H, W)``).
        joints: maps an image; any number if not given.
        platforms: those it is to run on, of ``"cpu"``, ``"cuda"``, ``"rocm"`` and ``"tpu"``;
            none of them need be here.
        decoder: :func:`dark_jax.decode`, ``decode_fit``, ``decode_peaks``,
            ``decode_soft_argmax`` or a function of yours that is called like them.
        axes: the axes of a map in ``[B, J, H, W]``, as for :func:`dark_jax.decode`;
            ``(-3, -2)`` takes ``[B, H, W, J]``.
        dtype: of the maps, real.
        **options: of the decoder: ``rule``, ``kernel_size``, ``sigma`` and so on. They become
            part of the artefact.

    Returns:
        The artefact, for :func:`save` and :func:`load`. Called with heatmaps it returns
        a dictionary of ``coords``, ``scores``, ``status`` and ``covariance``, as
        :class:`dark_jax.Keypoints` has them: ``coords [B, J, dim]``.

    Raises:
        ImportError: ``flatbuffers`` is not installed.
        TypeError: ``size``, ``joints``, ``axes``, ``platforms`` or ``dtype`` are of another
            type; an option is not the decoder's.
        ValueError: ``size`` is not one to three positive integers, as many as ``axes``;
            ``joints`` is below 1; a platform is unknown; an option is refused by the decoder.

    Example:
        >>> import dark_jax
        >>> from dark_jax import export
        >>> decode = export.load(export.export_decode(size=(64, 48), sigma=2.0))
        >>> heatmaps = dark_jax.encode([[[20.25, 30.5]]], size=(64, 48))
        >>> decode(heatmaps)["coords"].round(2).tolist()
        [[[20.25, 30.5]]]
        >>> decode.about["inputs"]
        ['float32[batch,joints,64,48]']

    References:
        StableHLO's portable artefacts; ``jax.export``.
    """
    axes = checks.map_axes("axes", axes)
    sides = checks.map_size("size", size, len(axes))
    batch, some = jax.export.symbolic_shape("batch, joints")
    others: tuple[Any, Any] = (
        batch,
        some if joints is None else checks.at_least_one("joints", joints),
    )
    along = checks.axes_of("heatmaps", (*others, *sides), axes)
    left, right = iter(others), iter(sides)
    shape = [next(right if axis in along else left) for axis in range(2 + len(axes))]
    # Refuses what is no option of the decoder, and knows those that were left out.
    bound = inspect.signature(decoder).bind(None, axes=axes, **options)
    bound.apply_defaults()
    _, *parameters = bound.arguments.items()

    def decode(heatmaps: jax.Array) -> Keypoints:
        return decoder(heatmaps, axes=axes, **options)

    return export_function(
        decode,
        jax.ShapeDtypeStruct(shape, checks.real_dtype("dtype", dtype)),
        platforms=platforms,
        parameters={"decoder": getattr(decoder, "__name__", repr(decoder)), **dict(parameters)},
    )


def export_function(
    function: Callable[..., Any],
    *arguments: Any,
    platforms: tuple[str, ...] = PLATFORMS,
    parameters: Mapping[str, Any] | None = None,
) -> bytes:
    """A function of yours as an artefact: a network and its decoder, SimCC, an encoder.

    What the function closes over, a network's weights for one, becomes part of the artefact,
    up to 2 GB; pass them as an argument to keep them apart.

    Args:
        function: of arrays; :class:`dark_jax.Keypoints` in what it returns become
            dictionaries.
        *arguments: its arguments as ``jax.ShapeDtypeStruct`` or as arrays, whose shapes and
            dtypes alone are taken, or dictionaries, lists and tuples of them. Sizes left open
            come from ``jax.export.symbolic_shape``.
        platforms: as for :func:`export_decode`.
        parameters: to be kept in the artefact, for who reads it later: names and values that
            JSON has, arrays, or anything else by its ``repr``.

    Returns:
        The artefact, for :func:`save` and :func:`load`.

    Raises:
        ImportError: ``flatbuffers`` is not installed.
        TypeError: ``function`` takes or returns something else than arrays in dictionaries,
            lists and tuples; ``platforms`` is no tuple; ``parameters`` do not go by names.
        ValueError: a platform is unknown, or ``function`` refuses its arguments.

    Example:
        >>> import jax
        >>> import dark_jax
        >>> from dark_jax import export
        >>> bins = jax.ShapeDtypeStruct(jax.export.symbolic_shape("batch, 17, 96"), "float32")
        >>> artefact = export.export_function(dark_jax.decode_simcc, bins, bins)
        >>> simcc = export.load(artefact)
        >>> simcc.about["outputs"]["coords"]
        'float32[batch,17,2]'

    References:
        StableHLO's portable artefacts; ``jax.export``.
    """
    extras.load("flatbuffers", extra="export")
    platforms = checks.chosen("platforms", platforms, _KNOWN_PLATFORMS)

    kept = checks.named("parameters", {} if parameters is None else parameters)

    def plain(*arguments: Any) -> Any:
        return jax.tree.map(_as_dictionary, function(*arguments), is_leaf=_is_keypoints)

    plain.__name__ = getattr(function, "__name__", "function")  # errors of JAX give it
    with _without_traces():
        exported = jax.export.export(jax.jit(plain), platforms=platforms)(*arguments)
    try:
        serialized = exported.serialize()
    except ValueError as error:
        raise TypeError(
            "function must take and return arrays in dictionaries, lists and tuples, "
            f"got {exported.in_tree} -> {exported.out_tree} ({error})"
        ) from error
    about = {
        "format": FORMAT,
        "dark_jax": dark_jax.__version__,
        "jax": jax.__version__,
        "platforms": platforms,
        "inputs": [str(aval) for aval in exported.in_avals],
        "outputs": jax.tree.unflatten(exported.out_tree, map(str, exported.out_avals)),
        "parameters": kept,
    }
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        # Members without a time: the same function gives the same bytes.
        text = json.dumps(about, indent=1, default=_as_json) + "\n"
        archive.writestr(zipfile.ZipInfo(_ABOUT), text)
        archive.writestr(zipfile.ZipInfo(_FUNCTION), serialized)
    return stream.getvalue()


def _is_keypoints(value: Any) -> bool:
    return isinstance(value, Keypoints)


def _as_dictionary(value: Any) -> Any:
    return dict(vars(value)) if _is_keypoints(value) else value


def _as_json(value: Any) -> Any:
    known = isinstance(value, np.ndarray | np.generic | jax.Array)
    return np.asarray(value).tolist() if known else repr(value)


@contextlib.contextmanager
def _without_traces() -> Iterator[None]:
    """Programs name the lines they come from: without, they show no folder of this machine."""
    option = "jax_traceback_in_locations_limit"
    before = getattr(jax.config, option)
    jax.config.update(option, 0)
    try:
        yield
    finally:
        jax.config.update(option, before)


def save(path: str | Path, artefact: bytes) -> None:
    """Write an artefact to a file, whole or not at all.

    Args:
        path: replaced if it exists; ``.zip`` says what it is.
        artefact: of :func:`export_decode` or :func:`export_function`.

    Returns:
        None.

    Raises:
        TypeError: ``artefact`` is not bytes.
        OSError: the file cannot be written.

    Example:
        >>> import tempfile
        >>> import dark_jax
        >>> from dark_jax import export
        >>> artefact = export.export_decode(size=(64, 48), rule=dark_jax.rules.HRNET)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     export.save(f"{folder}/decode.zip", artefact)
        ...     export.load(f"{folder}/decode.zip").about["parameters"]["rule"]
        'rules.HRNET'

    References:
        The ZIP file format; :mod:`dark_jax.export` says what is in it.
    """
    if not isinstance(artefact, bytes):
        raise TypeError(f"artefact must be bytes, got {type(artefact).__name__}")
    files.write_together({Path(path): artefact})


@dataclass(frozen=True, eq=False)  # a function: hashed by identity, as jit wants it
class Artefact:
    """A function that was exported; call it with arrays of the shapes in ``about["inputs"]``.

    Attributes:
        exported: the function as ``jax.export`` has it.
        about: what is in it and what made it: ``format``, the versions of ``dark_jax`` and
            ``jax``, ``platforms``, ``inputs``, ``outputs`` and ``parameters``.

    Example:
        >>> from dark_jax import export
        >>> decode = export.load(export.export_decode(size=(64, 48), joints=17, sigma=2.0))
        >>> decode.about["inputs"], decode.about["outputs"]["coords"]
        (['float32[batch,17,64,48]'], 'float32[batch,17,2]')
        >>> decode.about["parameters"]["sigma"]
        2.0

    References:
        StableHLO's portable artefacts; ``jax.export``.
    """

    exported: jax.export.Exported
    about: Mapping[str, Any]

    @functools.cached_property
    def _compiled(self) -> Callable[..., Any]:
        return jax.jit(self.exported.call)

    def __call__(self, *arguments: Any) -> Any:
        """What the function returns; compiled once for each set of sizes."""
        return self._compiled(*arguments)


def load(source: str | Path | bytes | bytearray | memoryview) -> Artefact:
    """Read an artefact, and say so if it is damaged or too new.

    Args:
        source: a file, or an artefact in memory.

    Returns:
        An :class:`Artefact`, to be called as the function was.

    Raises:
        ImportError: ``flatbuffers`` is not installed.
        OSError: the file cannot be read.
        TypeError: ``source`` is neither.
        ValueError: it is no artefact, cut or damaged, or a newer dark_jax or JAX made it than
            can be read here.

    Example:
        >>> import jax
        >>> from dark_jax import export
        >>> two = jax.ShapeDtypeStruct((2,), "float32")
        >>> double = export.load(export.export_function(lambda x: 2 * x, two))
        >>> double(jax.numpy.ones(2)).tolist(), double.about["outputs"]
        ([2.0, 2.0], 'float32[2]')

    References:
        How long an artefact can be read: the compatibility guarantees of ``jax.export``.
    """
    extras.load("flatbuffers", extra="export")
    if isinstance(source, str | Path):
        name, data = str(source), Path(source).read_bytes()
    elif isinstance(source, bytes | bytearray | memoryview):
        name, data = "source", bytes(source)
    else:
        raise TypeError(f"source must be a path or bytes, got {type(source).__name__}")
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            about = json.loads(archive.read(_ABOUT))
            maker = f"{name} was made by dark_jax {about['dark_jax']} with jax {about['jax']}"
            newer = about["format"] > FORMAT
            serialized = b"" if newer else archive.read(_FUNCTION)
    except Exception as error:  # a broken zip breaks in many ways
        raise ValueError(
            f"{name} must be an artefact of dark_jax.export, whole and undamaged: {error}"
        ) from error
    if newer:
        raise ValueError(
            f"{maker} in format {about['format']}; dark_jax {dark_jax.__version__} reads "
            f"formats up to {FORMAT}"
        )
    return Artefact(exported=_deserialized(serialized, about["jax"], maker), about=about)


def _deserialized(serialized: bytes, jax_version: str, maker: str) -> jax.export.Exported:
    try:
        exported = jax.export.deserialize(bytearray(serialized))
        version = exported.calling_convention_version
        low = jax.export.minimum_supported_calling_convention_version
        high = jax.export.maximum_supported_calling_convention_version
        if not low <= version <= high:
            raise ValueError(f"calling convention {version} is not {low} to {high}")
        if jax_version != jax.__version__:
            exported.mlir_module()  # all of it now: what is too new fails here, not at the call
    except Exception as error:
        raise ValueError(f"{maker}, which jax {jax.__version__} does not read: {error}") from error
    return exported
