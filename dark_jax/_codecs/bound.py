"""A decoder with its parameters, which users give as a function or as a partial of one."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from dark_jax._core import checks
from dark_jax._core.keypoints import Keypoints


@dataclass(frozen=True)
class Bound:
    """A decoder and all of its parameters.

    Attributes:
        function: the decoder. It takes the maps, and ``axes`` and the parameters by name.
        axes: the axes of a map.
        parameters: all other parameters by name; those that were left out have their defaults.
    """

    function: Callable[..., Keypoints]
    axes: tuple[int, ...]
    parameters: dict[str, Any]

    @property
    def name(self) -> str:
        """The name of the function."""
        return getattr(self.function, "__name__", repr(self.function))

    def __call__(self, heatmaps: Any) -> Keypoints:
        """Decode the keypoints of an array."""
        return self.function(heatmaps, axes=self.axes, **self.parameters)


def bound(decoder: Any, axes: Any) -> Bound:
    """Bind ``axes`` to a function of maps or a partial of one; None leaves the axes that it has.

    Raises:
        TypeError: ``decoder`` is not a function with the keyword ``axes``, a bound parameter is not
            one of its own, or a parameter is missing.
        ValueError: ``decoder`` already has other axes.
    """
    checks.function("decoder", decoder)
    given = dict(decoder.keywords) if isinstance(decoder, functools.partial) else {}
    function = decoder.func if isinstance(decoder, functools.partial) else decoder
    name = getattr(function, "__name__", repr(function))
    known, any_other = _keywords(function)
    if getattr(decoder, "args", ()):
        raise TypeError(
            f"decoder must leave the heatmaps open: bind parameters by their names, as "
            f"functools.partial({name}, axes=...) does, got {decoder!r}"
        )
    if "axes" not in known and not any_other:
        raise TypeError(
            f"decoder must take the keyword axes, as dark_jax.decode does, but {name} does not"
        )
    for unknown in given.keys() - known.keys():
        if not any_other:
            raise TypeError(
                f"decoder {name} has no parameter {unknown!r}: it has {', '.join(known)}"
            )
    default = known.pop("axes", (-2, -1))
    own = given.pop("axes", None)
    for missing in (each for each, value in known.items() if value is inspect.Parameter.empty):
        if missing not in given:
            raise TypeError(
                f"decoder {name} needs {missing}: bind it, as "
                f"functools.partial({name}, {missing}=...) does"
            )
    chosen = [checks.map_axes("axes", each) for each in (axes, own) if each is not None]
    if len({*chosen}) > 1:
        raise ValueError(
            f"axes must be given once: got axes={chosen[0]}, and axes={chosen[1]} of the decoder"
        )
    return Bound(function, chosen[0] if chosen else default, known | given)


def _keywords(function: Callable[..., Any]) -> tuple[dict[str, Any], bool]:
    """The parameters that may be bound by name, with their defaults; and whether any others may."""
    try:
        _, *others = inspect.signature(function).parameters.values()
    except ValueError:  # it has no parameters, or is written in C
        raise TypeError(
            f"decoder must be a function of maps, as dark_jax.decode is, got {function!r}"
        ) from None
    kinds = inspect.Parameter.KEYWORD_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD
    known = {each.name: each.default for each in others if each.kind in kinds}
    return known, any(each.kind is each.VAR_KEYWORD for each in others)
