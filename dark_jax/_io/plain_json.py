"""Convert values to JSON, for JSON files and for the metadata of other files."""

import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.core
import numpy as np


class _UnsayableError(Exception):
    """A value that JSON cannot represent, with its place in the whole value."""

    def __init__(self, error: type[Exception], problem: str) -> None:
        self.error, self.problem, self.place = error, problem, ""


def _refused(value: Any) -> Any:
    if isinstance(value, float):
        problem = f"must be a finite number or None, which JSON can represent, got {value}"
        raise _UnsayableError(ValueError, problem)
    raise _UnsayableError(
        TypeError,
        "must be something that JSON can represent (text, numbers, True, False, None, lists and "
        f"dictionaries of them), got {type(value).__name__}: give str(value), for example",
    )


def as_json(name: str, value: Any, *, other: Callable[[Any], Any] = _refused) -> Any:
    """Return ``value`` as text, finite numbers, lists and dictionaries.

    Numbers and arrays of NumPy and JAX become numbers and lists. Integer keys become text.

    Args:
        name: the name of the value in errors.
        value: any value.
        other: returns a replacement for a value that JSON cannot represent.

    Raises:
        TypeError: a part of the value has another type; a key is neither text nor an integer.
        ValueError: a number is not finite; two keys are equal as text; the value contains itself.
    """
    try:
        return _said(value, other)
    except _UnsayableError as error:
        raise error.error(f"{name}{error.place} {error.problem}") from None
    except RecursionError:
        raise ValueError(f"{name} must not contain itself, or be nested too deeply") from None


def _said(value: Any, other: Callable[[Any], Any]) -> Any:
    if type(value) is float and math.isfinite(value):  # the most frequent case
        return value
    if isinstance(value, Mapping):
        found = {_key(key): _part(key, each, other) for key, each in value.items()}
        if len(found) < len(value):
            raise _UnsayableError(ValueError, f"must have keys that differ as text, got {[*value]}")
        return found
    if isinstance(value, jax.Array | np.ndarray) and not isinstance(value, jax.core.Tracer):
        value = np.asarray(value)
        value = [*value] if value.ndim else value[()]
    if isinstance(value, list | tuple):
        return [_part(n, each, other) for n, each in enumerate(value)]
    value = plain(value)
    if value is None or isinstance(value, str | int):  # a bool is an int
        return value
    return value if isinstance(value, float) and math.isfinite(value) else other(value)


def _part(place: Any, value: Any, other: Callable[[Any], Any]) -> Any:
    try:
        return _said(value, other)
    except _UnsayableError as error:
        error.place = f"[{place!r}]{error.place}"
        raise


def _key(key: Any) -> str:
    if isinstance(key, bool) or not isinstance(key, str | int | np.integer):
        raise _UnsayableError(TypeError, f"must have text as keys, got {key!r}: give str(key)")
    return str(key)


def plain(value: Any) -> Any:
    """Convert a NumPy scalar to Python; a float becomes the shortest number that reads back."""
    if isinstance(value, np.floating):
        return float(str(value))
    return value.item() if isinstance(value, np.generic) else value


def json_bytes(value: Any) -> bytes:
    """Return the contents of a JSON file; raise ValueError if a number is not finite."""
    return (json.dumps(value, indent=1, allow_nan=False) + "\n").encode()


def read_json(path: Path) -> dict[str, Any] | None:
    """Return the object in a JSON file; None if a file system left it empty or damaged."""
    try:
        found = json.loads(path.read_text())
    except ValueError:
        return None
    return found if isinstance(found, dict) else None
