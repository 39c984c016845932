"""An artefact file is read whole, or is refused with a message that says why."""

import dataclasses
import functools
import io
import json
import sys
import threading
import zipfile
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import dark_jax
from tests.contracts.decoders import SIZE
from tests.support import synthetic

pytest.importorskip("flatbuffers")

from dark_jax import export


@pytest.fixture(scope="module")
def small() -> bytes:
    """The artefact of a function so short that every byte of it can be tried."""
    return export.export_function(lambda x: x + 1, jax.ShapeDtypeStruct((2,), jnp.float32))


def test_save(tmp_path: Path, small: bytes) -> None:
    """A file is written whole or not at all, and no other file is left."""
    target = tmp_path / "function.zip"
    for artefact in (b"of yesterday", small):
        export.save(artefact, target)
        assert target.read_bytes() == artefact
    for path in (target, str(target)):
        np.testing.assert_array_equal(export.load(path)(np.zeros(2, np.float32)), [1, 1])
    assert repr(export.load(target)) == "Artefact(float32[2] -> float32[2])"
    with pytest.raises(TypeError, match="artefact must be bytes, got PosixPath"):
        export.save(target, tmp_path / "other.zip")  # pyright: ignore[reportArgumentType]
    with pytest.raises(OSError, match="there is no folder"):
        export.save(small, tmp_path / "nowhere" / "function.zip")
    assert list(tmp_path.iterdir()) == [target]


def test_damaged(tmp_path: Path, small: bytes) -> None:
    """A lost or changed byte is noticed, except where the zip format does not use it."""
    whole = export.load(small)
    for length in range(0, len(small), 7):
        with pytest.raises(ValueError, match="source must be an artefact"):
            export.load(small[:length])
    unnoticed = 0
    bits = synthetic.rng(0).integers(0, 8, len(small))
    for place, bit in enumerate(bits):
        damaged = bytearray(small)
        damaged[place] ^= 1 << int(bit)
        try:
            found = export.load(damaged)
        except ValueError:
            continue
        unnoticed += 1
        assert found.about == whole.about
        assert found.exported.mlir_module_serialized == whole.exported.mlir_module_serialized
    assert unnoticed < 150  # times, attributes and the like in the zip's headers
    (tmp_path / "notes.txt").write_text("no artefact")
    with pytest.raises(ValueError, match=r"notes\.txt must be an artefact of dark_jax\.export"):
        export.load(tmp_path / "notes.txt")


def forged(artefact: bytes, about: dict[str, Any], **changes: Any) -> bytes:
    """An artefact as another version might have made it."""
    whole = export.load(artefact)
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("about.json", json.dumps({**whole.about, **about}))
        exported = dataclasses.replace(whole.exported, **changes)
        archive.writestr("function.jax_export", exported.serialize())
    return stream.getvalue()


@pytest.mark.parametrize(
    ("about", "changes", "message"),
    [
        ({"format": 2, "dark_jax": "9.0"}, {}, r"dark_jax 9\.0 .* format 2; .* formats up to 1"),
        (
            {"jax": "99.0"},
            {"calling_convention_version": 99},
            r"with jax 99\.0, which jax \S+ does not read: calling convention 99",
        ),
        (
            {"jax": "99.0"},
            {"mlir_module_serialized": b"ML\xefR" + bytes(range(50))},
            r"with jax 99\.0, which jax \S+ does not read: INVALID_ARGUMENT",
        ),
    ],
)
def test_too_new(
    small: bytes, about: dict[str, Any], changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match="source was made by .*" + message):
        export.load(forged(small, about, **changes))


def test_made_by_another_jax(small: bytes) -> None:
    """An artefact that can be read is not refused because of its version."""
    found = export.load(forged(small, {"jax": "99.0"}))(np.zeros(2, np.float32))
    np.testing.assert_array_equal(found, [1, 1])


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"size": (64,)}, ValueError, r"size must be \(H, W\)"),
        ({"size": (64, 0)}, ValueError, "size must be .* each at least 1"),
        ({"joints": 0}, ValueError, "joints must be an integer of at least 1, got 0"),
        ({"joints": "17"}, TypeError, "joints must be an integer"),
        ({"axes": (-1, -2)}, ValueError, "axes must be in increasing order"),
        ({"axes": (-5, -1)}, ValueError, r"heatmaps must have axes \(-5, -1\)"),
        ({"platforms": "cpu"}, TypeError, "platforms must be a tuple, one or more of"),
        ({"platforms": ()}, ValueError, "platforms must be one or more of"),
        ({"platforms": ("gpu",)}, ValueError, "platforms must be one or more of .*cuda"),
        ({"platforms": ("cpu", "cpu")}, ValueError, "each once"),
        ({"dtype": "complex64"}, TypeError, "dtype must be of real numbers"),
        ({"dtype": "float"}, ValueError, "dtype float64 needs jax_enable_x64"),
        ({"dtype": "pixels"}, TypeError, "dtype must be a dtype, got 'pixels'"),
        (
            {"decoder": functools.partial(dark_jax.decode, kernel=11)},  # pyright: ignore[reportCallIssue]
            TypeError,
            "decoder decode has no parameter 'kernel': it has rule, kernel_size, blur_sigma, cov",
        ),
        (
            {"decoder": functools.partial(dark_jax.decode, kernel_size=4)},
            ValueError,
            "kernel_size must be an odd integer",
        ),
        (
            {"decoder": dark_jax.decode_fit},
            TypeError,
            r"decoder decode_fit needs sigma: bind it, as functools.partial\(decode_fit, sigma=",
        ),
        (
            {"decoder": functools.partial(dark_jax.decode, axes=(-1,)), "axes": (-2, -1)},
            ValueError,
            r"axes must be given once: got axes=\(-2, -1\), and axes=\(-1,\) of the decoder",
        ),
        (
            {"decoder": functools.partial(dark_jax.decode, np.ones((3, 3)))},
            TypeError,
            "decoder must leave the heatmaps open",
        ),
        (
            {"decoder": dark_jax.decode_simcc},
            TypeError,
            "must take the keyword axes, .* decode_simcc do",
        ),
        ({"decoder": "fit"}, TypeError, "decoder must be a function, got 'fit'"),
    ],
)
def test_bad_arguments(arguments: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        export.export_decode(**{"size": SIZE, **arguments})


class Pair(NamedTuple):
    first: jax.Array


def test_bad_functions() -> None:
    one = jax.ShapeDtypeStruct((2,), jnp.float32)
    with pytest.raises(TypeError, match=r"arrays in dictionaries, lists and tuples, .*Pair"):
        export.export_function(Pair, one, platforms=("cpu",))
    for parameters in ({1: "one"}, ["sigma"]):
        with pytest.raises(TypeError, match="parameters must be a dictionary of names"):
            export.export_function(jnp.abs, one, parameters=parameters)  # pyright: ignore[reportArgumentType]
    with pytest.raises(TypeError, match="source must be a path or bytes, got int"):
        export.load(3)  # pyright: ignore[reportArgumentType]
    with pytest.raises(FileNotFoundError, match="nowhere"):
        export.load("nowhere")


def test_missing_flatbuffers(monkeypatch: pytest.MonkeyPatch, small: bytes) -> None:
    monkeypatch.setitem(sys.modules, "flatbuffers", None)
    for call in (lambda: export.load(small), lambda: export.export_decode(size=SIZE)):
        with pytest.raises(ImportError, match=r'flatbuffers .*pip install "dark_jax\[export\]"'):
            call()


def test_threads_leave_the_option_of_jax_alone() -> None:
    """Exporting changes how programs name their lines, for the whole process, and restores it.

    The second export begins, if it can, during the first one, and ends after it.
    """
    before = jax.config.jax_traceback_in_locations_limit  # pyright: ignore[reportAttributeAccessIssue]
    assert before != 0
    first_begun, second_begun, first_done = (threading.Event() for _ in range(3))

    def first(values: Any) -> Any:
        first_begun.set()
        second_begun.wait(timeout=1)
        return values

    def second(values: Any) -> Any:
        second_begun.set()
        first_done.wait(timeout=10)
        return values

    def nested(values: Any) -> Any:
        exported(first)
        return values

    def exported(function: Any) -> bytes:
        return export.export_function(function, np.zeros(2, np.float32), platforms=("cpu",))

    other = threading.Thread(target=lambda: first_begun.wait(10) and exported(second))
    other.start()
    exported(nested)
    first_done.set()
    other.join()
    assert second_begun.is_set()
    assert jax.config.jax_traceback_in_locations_limit == before  # pyright: ignore[reportAttributeAccessIssue]
