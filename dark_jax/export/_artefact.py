"""Write and read the file of an exported function, and call the function."""

from __future__ import annotations

import functools
import io
import json
import os
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.export
import jax.numpy as jnp

import dark_jax
from dark_jax._core import checks, optional
from dark_jax._io import atomic

FORMAT = 1

_ABOUT, _FUNCTION = "about.json", "function.jax_export"


def pack(about: bytes, serialized: bytes | bytearray) -> bytes:
    """Return the artefact. Its members have no time: the same function gives the same bytes."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr(zipfile.ZipInfo(_ABOUT), about)
        archive.writestr(zipfile.ZipInfo(_FUNCTION), serialized)
    return stream.getvalue()


def save(artefact: bytes, path: str | os.PathLike[str]) -> None:
    """Write an artefact to a file. The file is written completely or not at all.

    Args:
        artefact: bytes, from :func:`export_decode` or :func:`export_function`.
        path: an existing file is replaced; ``.zip`` is the usual suffix.

    Returns:
        None.

    Raises:
        TypeError: ``artefact`` is not bytes, or ``path`` is not a path.
        OSError: the file cannot be written; ``path`` is a folder, a device or a pipe.

    Example:
        >>> import functools, tempfile
        >>> import dark_jax
        >>> from dark_jax import export
        >>> hrnet = functools.partial(dark_jax.decode, rule=dark_jax.rules.HRNET)
        >>> artefact = export.export_decode(size=(64, 48), decoder=hrnet)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     export.save(artefact, f"{folder}/decode.zip")
        ...     export.load(f"{folder}/decode.zip").about["parameters"]["rule"]
        'rules.HRNET'

    References:
        The ZIP file format. :mod:`dark_jax.export` describes the members.
    """
    if not isinstance(artefact, bytes):
        raise TypeError(f"artefact must be bytes, got {type(artefact).__name__}")
    path = checks.path("path", path)
    atomic.check_target(path, option="path")
    atomic.write_together({path: artefact})


@dataclass(frozen=True, eq=False, repr=False)  # hashed by identity, as jit needs it
class Artefact:
    """An exported function. Call it with arrays of the shapes in ``about["inputs"]``.

    Attributes:
        exported: the function as a ``jax.export.Exported``.
        about: a dictionary that describes the artefact: ``format``, the versions of ``dark_jax``
            and ``jax``, ``platforms``, ``inputs``, ``outputs`` and ``parameters``.

    Example:
        >>> from dark_jax import export
        >>> decode = export.load(export.export_decode(size=(64, 48), joints=17))
        >>> decode.about["inputs"], decode.about["outputs"]["coords"]
        (['float32[batch,17,64,48]'], 'float32[batch,17,2]')
        >>> decode.about["parameters"]["decoder"], decode.about["parameters"]["rule"]
        ('decode', 'rules.GUARDED')

    References:
        StableHLO's portable artefacts; ``jax.export``.
    """

    exported: jax.export.Exported
    about: Mapping[str, Any]

    def __repr__(self) -> str:
        """Show the inputs and outputs, not the bytes."""
        return f"Artefact({', '.join(self.about['inputs'])} -> {self.about['outputs']})"

    @functools.cached_property
    def _compiled(self) -> Callable[..., Any]:
        return jax.jit(self.exported.call)

    def __call__(self, *arguments: Any) -> Any:
        """Call the function. It is compiled once for each combination of sizes.

        ``jax.export`` has no program for an empty batch, whose results are known without one.
        """
        results = self._empty_results(arguments)
        return self._compiled(*arguments) if results is None else results

    def _empty_results(self, arguments: tuple[Any, ...]) -> Any:
        """Return the results if a size that was left open is 0; None if they are not known."""
        leaves, tree = jax.tree.flatten((arguments, {}))
        given = [jnp.shape(leaf) for leaf in leaves]
        here = jax.default_backend() in self.exported.platforms
        if tree != self.exported.in_tree or not any(0 in shape for shape in given) or not here:
            return None
        sizes: dict[Any, int] = {}
        for aval, leaf, shape in zip(self.exported.in_avals, leaves, given, strict=True):
            dtype = jax.dtypes.canonicalize_dtype(jnp.result_type(leaf))
            if len(shape) != len(aval.shape) or dtype != aval.dtype:
                return None
            for dim, size in zip(aval.shape, shape, strict=True):
                expected = dim if isinstance(dim, int) else sizes.setdefault(dim, size)
                if size != expected:
                    return None
        shapes = [[sizes.get(dim, dim) for dim in aval.shape] for aval in self.exported.out_avals]
        if not all(0 in shape and all(isinstance(n, int) for n in shape) for shape in shapes):
            return None
        dtypes = [aval.dtype for aval in self.exported.out_avals]
        return jax.tree.unflatten(self.exported.out_tree, map(jnp.zeros, shapes, dtypes))


def load(source: str | os.PathLike[str] | bytes | bytearray | memoryview) -> Artefact:
    """Read an artefact. An error says if it is damaged or too new.

    Args:
        source: the path of a file, or an artefact as bytes.

    Returns:
        An :class:`Artefact`, which is called like the original function. It returns dictionaries
        instead of :class:`dark_jax.Keypoints`.

    Raises:
        ImportError: ``flatbuffers`` is not installed.
        OSError: the file cannot be read.
        TypeError: ``source`` is neither a path nor bytes.
        ValueError: ``source`` is not an artefact, is cut or damaged, or was made by a newer
            dark_jax or JAX than this one can read.

    Example:
        >>> import jax
        >>> from dark_jax import export
        >>> two = jax.ShapeDtypeStruct((2,), "float32")
        >>> double = export.load(export.export_function(lambda x: 2 * x, two))
        >>> double(jax.numpy.ones(2)).tolist(), double.about["outputs"]
        ([2.0, 2.0], 'float32[2]')

    References:
        The compatibility guarantees of ``jax.export`` say how long an artefact can be read.
    """
    optional.load("flatbuffers", extra="export")
    if isinstance(source, str | os.PathLike):
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
    except Exception as error:  # a broken zip fails in many ways
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
            exported.mlir_module()  # parse it now: a program that is too new fails here
    except Exception as error:
        raise ValueError(f"{maker}, which jax {jax.__version__} does not read: {error}") from error
    return exported
