"""Export functions as artefacts: a decoder for any batch, or a network with its decoder."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
import jax.export
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike

import dark_jax
from dark_jax._codecs.bound import bound
from dark_jax._core import checks, optional
from dark_jax._core.keypoints import Keypoints
from dark_jax._io.plain_json import as_json, json_bytes
from dark_jax.export._artefact import FORMAT, pack

PLATFORMS = ("cpu", "cuda", "tpu")
_KNOWN_PLATFORMS = (*PLATFORMS, "rocm")
_OPTION = threading.RLock()  # a function that is exported may itself export one


def _real_dtype(name: str, value: DTypeLike) -> np.dtype:
    """Return ``value`` as a dtype of real numbers that JAX supports in its present x64 mode."""
    try:
        dtype = jnp.dtype(value)
    except TypeError:
        raise TypeError(f"{name} must be a dtype, got {value!r}") from None
    if not checks.is_real(dtype):
        raise TypeError(f"{name} must be of real numbers of at most 64 bits, got {dtype}")
    if jax.dtypes.canonicalize_dtype(dtype) != dtype:
        raise ValueError(f"{name} {dtype} needs jax_enable_x64, which is off")
    return dtype


def _chosen(name: str, value: Any, allowed: tuple[str, ...]) -> tuple[str, ...]:
    """Return ``value`` as a tuple of one or more different words out of ``allowed``."""
    expected = f"one or more of {allowed}"
    if not isinstance(value, tuple | list):
        raise TypeError(f"{name} must be a tuple, {expected}, got {value!r}")
    if not value or len(set(value)) != len(value) or not set(value) <= set(allowed):
        raise ValueError(f"{name} must be {expected}, each once, got {value!r}")
    return tuple(value)


def _kept(name: str, value: Any) -> dict[str, Any]:
    """Return ``value`` as a JSON dictionary; what JSON cannot represent becomes its ``repr``."""
    if not isinstance(value, Mapping) or not all(isinstance(key, str) for key in value):
        raise TypeError(f"{name} must be a dictionary of names and values, got {value!r}")
    return as_json(name, value, other=repr)


def export_decode(
    *,
    size: tuple[int, ...],
    joints: int | None = None,
    platforms: tuple[str, ...] = PLATFORMS,
    decoder: Callable[..., Keypoints] = dark_jax.decode,
    axes: tuple[int, ...] | None = None,
    dtype: DTypeLike = np.float32,
) -> bytes:
    """Export a decoder of maps of one size, for any batch size and several platforms.

    Args:
        size: ``(H, W)`` of the maps, or ``(W,)`` or ``(D, H, W)``.
        joints: the number of maps in an image. The default accepts any number.
        platforms: where the artefact can run: some of ``"cpu"``, ``"cuda"``, ``"rocm"`` and
            ``"tpu"``. This machine needs none of them.
        decoder: :func:`dark_jax.decode`, ``decode_fit``, ``decode_peaks``, ``decode_soft_argmax``
            or your own function that is called like them; or a ``functools.partial`` of one that
            binds its parameters, which become part of the artefact.
        axes: the axes of one map in ``[B, J, H, W]``, as for :func:`dark_jax.decode`. Use
            ``(-3, -2)`` for ``[B, H, W, J]``. The default is that of ``decoder``.
        dtype: the dtype of the maps, which must hold real numbers.

    Returns:
        The artefact as bytes, for :func:`save` and :func:`load`. Called with heatmaps, it returns
        a dictionary of the fields of :class:`dark_jax.Keypoints`: ``coords [B, J, dim]``,
        ``scores``, ``status`` and, if the decoder estimates it, ``covariance``.

    Notes:
        On the CPU the results are those of ``jax.jit(decoder)`` to the bit, and the covariance of
        a fit up to rounding. An artefact works under ``jit``, inside ``shard_map`` and on a
        sharded batch. It does not support gradients or ``vmap``.

    Raises:
        ImportError: ``flatbuffers`` is not installed.
        TypeError: ``size``, ``joints``, ``axes``, ``platforms`` or ``dtype`` have a wrong type;
            ``decoder`` is not a function of maps, lacks a parameter, or has one too many.
        ValueError: ``size`` is not one to three positive integers, as many as ``axes``;
            ``joints`` is below 1; a platform is unknown; the decoder refuses a parameter;
            ``axes`` differ from those that ``decoder`` binds.

    Example:
        >>> import functools
        >>> import dark_jax
        >>> from dark_jax import export
        >>> decoder = functools.partial(dark_jax.decode, blur_sigma=2.0)
        >>> decode = export.load(export.export_decode(size=(64, 48), decoder=decoder))
        >>> heatmaps = dark_jax.encode([[[20.25, 30.5]]], size=(64, 48))
        >>> decode(heatmaps)["coords"].round(2).tolist()
        [[[20.25, 30.5]]]
        >>> decode.about["inputs"]
        ['float32[batch,joints,64,48]']

    References:
        StableHLO's portable artefacts; ``jax.export``.
    """
    chosen = bound(decoder, axes)
    sides = checks.map_size("size", size, len(chosen.axes))
    batch, some = jax.export.symbolic_shape("batch, joints")
    others: tuple[Any, Any] = (
        batch,
        some if joints is None else checks.at_least_one("joints", joints),
    )
    along = checks.axes_of("heatmaps", (*others, *sides), chosen.axes)
    left, right = iter(others), iter(sides)
    shape = [next(right if axis in along else left) for axis in range(2 + len(along))]

    def decode(heatmaps: jax.Array) -> Keypoints:
        return chosen(heatmaps)

    return export_function(
        decode,
        jax.ShapeDtypeStruct(shape, _real_dtype("dtype", dtype)),
        platforms=platforms,
        parameters={"decoder": chosen.name, **chosen.parameters, "axes": chosen.axes},
    )


def export_function(
    function: Callable[..., Any],
    *arguments: Any,
    platforms: tuple[str, ...] = PLATFORMS,
    parameters: Mapping[str, Any] | None = None,
) -> bytes:
    """Export a function of arrays, such as a network with its decoder.

    Args:
        function: a function of arrays. :class:`dark_jax.Keypoints` in its result become
            dictionaries.
        *arguments: the arguments of ``function``: ``jax.ShapeDtypeStruct``, or arrays of which
            only shape and dtype are used, or dictionaries, lists and tuples of them. Use
            ``jax.export.symbolic_shape`` for sizes that may vary.
        platforms: where the artefact can run, as for :func:`export_decode`.
        parameters: names and values to keep in the artefact for later readers. Values that JSON
            cannot represent are kept as their ``repr``.

    Returns:
        The artefact as bytes, for :func:`save` and :func:`load`.

    Notes:
        Arrays that the function closes over, such as the weights of a network, become part of the
        artefact, up to 2 GB. Pass them as an argument to keep them apart.

    Raises:
        ImportError: ``flatbuffers`` is not installed.
        TypeError: ``function`` takes or returns something else than arrays in dictionaries, lists
            and tuples; ``platforms`` is not a tuple; ``parameters`` is not a dictionary with
            names as keys.
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
    optional.load("flatbuffers", extra="export")
    checks.function("function", function)
    platforms = _chosen("platforms", platforms, _KNOWN_PLATFORMS)

    kept = _kept("parameters", {} if parameters is None else parameters)

    def plain(*arguments: Any) -> Any:
        return jax.tree.map(_as_dictionary, function(*arguments), is_leaf=_is_keypoints)

    plain.__name__ = getattr(function, "__name__", "function")  # JAX shows it in errors
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
    return pack(json_bytes(about), serialized)


def _is_keypoints(value: Any) -> bool:
    return isinstance(value, Keypoints)


def _as_dictionary(value: Any) -> Any:
    if not _is_keypoints(value):
        return value
    return {name: field for name, field in vars(value).items() if field is not None}


@contextlib.contextmanager
def _without_traces() -> Iterator[None]:
    """Leave source lines out of exported programs, so that they do not reveal local folders.

    The option applies to the whole process, so one thread at a time changes and restores it.
    """
    option = "jax_traceback_in_locations_limit"
    with _OPTION:
        before = getattr(jax.config, option)
        jax.config.update(option, 0)
        try:
            yield
        finally:
            jax.config.update(option, before)
