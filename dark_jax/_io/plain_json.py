"""Values as JSON can say them, in files and in the headers of others."""

import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np


def _refused(name: str, value: Any) -> Any:
    if isinstance(value, float):
        raise ValueError(f"{name} must be a finite number or None, as JSON has them, got {value}")
    raise TypeError(
        f"{name} must be what JSON can say (text, numbers, True, False, None, lists and "
        f"dictionaries of them), got {type(value).__name__}"
    )


def as_json(name: str, value: Any, *, other: Callable[[str, Any], Any] = _refused) -> Any:
    """``value`` as text, finite numbers, lists and dictionaries.

    Numbers and arrays of NumPy and JAX become Python's.

    Args:
        name: what errors call the value.
        value: whatever it is.
        other: of a name and a value that JSON cannot say, what to say in its place.

    Raises:
        TypeError: a part of the value is of another type; a key is no text.
        ValueError: a number is not finite.
    """
    if isinstance(value, Mapping):
        for key in value:
            if not isinstance(key, str):
                raise TypeError(f"{name} must have text as keys, got {key!r}")
        return {
            str(key): as_json(f"{name}[{key!r}]", each, other=other) for key, each in value.items()
        }
    if isinstance(value, jax.Array | np.ndarray):
        value = np.asarray(value)
        value = [*value] if value.ndim else value[()]
    if isinstance(value, list | tuple):
        return [as_json(f"{name}[{n}]", each, other=other) for n, each in enumerate(value)]
    value = plain(value)
    if value is None or isinstance(value, str | int):  # a bool is an int
        return value
    if isinstance(value, float) and math.isfinite(value):
        return value
    return other(name, value)


def plain(value: Any) -> Any:
    """A NumPy scalar as Python's, a float as the shortest number that reads back."""
    if isinstance(value, np.floating):
        return float(str(value))
    return value.item() if isinstance(value, np.generic) else value


def json_bytes(value: Any) -> bytes:
    """The contents of a JSON file, in which no number may be NaN or infinite."""
    return (json.dumps(value, indent=1, allow_nan=False) + "\n").encode()


def read_json(path: Path) -> dict[str, Any] | None:
    """The object in a JSON file; None where there is none, as a file system may leave it."""
    try:
        found = json.loads(path.read_text())
    except ValueError:
        return None
    return found if isinstance(found, dict) else None
