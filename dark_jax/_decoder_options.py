"""The options of the ``dark-jax`` command that choose a decoder and its parameters."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Any

import click

from dark_jax import rules
from dark_jax._stores.decoder import DECODERS, Decoder, for_blocks


class _Numbers(click.ParamType):
    """One number, or several separated by commas."""

    name = "number"

    def convert(self, value: Any, param: Any, ctx: Any) -> float | tuple[float, ...]:
        if not isinstance(value, str):
            return value
        try:
            numbers = tuple(float(each) for each in value.split(","))
        except ValueError:
            self.fail(f"{value!r} is not a number, or numbers with commas between.", param, ctx)
        return numbers[0] if len(numbers) == 1 else numbers


class _Background(click.ParamType):
    """A number, or the word none, with which the background is estimated."""

    name = "number"

    def convert(self, value: Any, param: Any, ctx: Any) -> float | str:
        return value if value == "none" else click.FLOAT.convert(value, param, ctx)


_RULES = [rule.name for rule in (rules.GUARDED, *rules.PUBLISHED)]

# The settings of the command-line option for each parameter of the decoders.
_PARAMETERS: dict[str, dict[str, Any]] = {
    "rule": {
        "type": click.Choice(_RULES, case_sensitive=False),
        "metavar": "NAME",
        "help": f"one of {', '.join(_RULES)}.  [default: GUARDED]",
    },
    "kernel_size": {
        "type": int,
        "help": "odd size of the blur in pixels.  [default: that of the rule, "
        f"{rules.GUARDED.kernel_size} for GUARDED and for peaks]",
    },
    "blur_sigma": {
        "type": _Numbers(),
        "help": "blur with a true Gaussian of this sigma in pixels instead; one number, or one for "
        "each axis, such as 2,2,1 for x, y and z.",
    },
    "covariance": {"is_flag": True, "help": "estimate the covariance of the coordinates."},
    "sigma": {
        "type": _Numbers(),
        "help": "sigma of the blobs in pixels; one number, or one for each axis. Required.",
    },
    "radius": {
        "type": int,
        "help": "pixels of the window to each side of the maximum.  [default: 2 sigma, at least "
        "3, for fit; the whole map for soft-argmax]",
    },
    "background": {
        "type": _Background(),
        "help": "value of a map far from any blob; a fit estimates it with none.  [default: 0]",
    },
    "from_blurred": {
        "is_flag": True,
        "help": "start at the maximum of the blurred map; for maps with one blob and strong noise.",
    },
    "temperature": {
        "type": float,
        "help": "temperature of the softmax; 0.1 or less for maps up to 1. Required.",
    },
    "debias": {
        "is_flag": True,
        "help": "undo the pull of far pixels towards the middle of the map.",
    },
    "max_peaks": {
        "type": int,
        "help": "the most peaks of a map; the highest are kept.  [default: 100]",
    },
    "threshold": {"type": float, "help": "a peak is higher than this. Required."},
    "min_distance": {
        "type": int,
        "help": "two peaks differ by more than this many pixels along an axis.  [default: 3]",
    },
}


# Example values of the parameters without a default.
_EXAMPLES = {"sigma": 2, "temperature": 0.1, "threshold": 0.2}


def _of(function: Callable[..., Any]) -> dict[str, Any]:
    """Return the parameters of a decoder that are options, with their defaults."""
    found = inspect.signature(function).parameters
    return {name: found[name].default for name in _PARAMETERS if name in found}


def _name(parameter: str) -> str:
    return "--" + parameter.replace("_", "-")


def decoder_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add ``--decoder`` and an option per parameter, whose help names the decoders it is for."""
    for parameter, settings in reversed(_PARAMETERS.items()):
        takers = ", ".join(name for name, each in DECODERS.items() if parameter in _of(each))
        settings = {**settings, "help": f"{takers}: {settings['help']}"}
        if settings.get("is_flag"):
            settings["default"] = None
        command = click.option(_name(parameter), **settings)(command)
    choose = click.option(
        "--decoder",
        type=click.Choice([*DECODERS], case_sensitive=False),
        default="dark",
        metavar="NAME",
        help="For one keypoint in each map: dark (DARK and the published rules), fit (Gaussians of "
        "a known --sigma) or soft-argmax. For several: peaks.  [default: dark]",
    )
    return choose(command)


def take_decoder(name: str, options: dict[str, Any], *, axes: tuple[int, ...]) -> Decoder:
    """Return the decoder that the options name, and remove its parameters from ``options``.

    Raises:
        ValueError: an option is for another decoder, or a required one is missing.
    """
    given: Mapping[str, Any] = {parameter: options.pop(parameter) for parameter in _PARAMETERS}
    given = {parameter: value for parameter, value in given.items() if value is not None}
    taken = _of(DECODERS[name])
    for parameter in given.keys() - taken.keys():
        others = [other for other, each in DECODERS.items() if parameter in _of(each)]
        raise ValueError(
            f"{_name(parameter)} is for --decoder {' or '.join(others)}, got --decoder {name}, "
            f"which takes {', '.join(map(_name, taken))}"
        )
    needed = [each for each, default in taken.items() if default is inspect.Parameter.empty]
    for parameter in needed:
        if parameter not in given:
            option = _name(parameter)
            raise ValueError(
                f"--decoder {name} needs {option}, for example {option} {_EXAMPLES[parameter]}"
            )
    values = {parameter: None if value == "none" else value for parameter, value in given.items()}
    if "rule" in given:
        values["rule"] = getattr(rules, given["rule"])
    return for_blocks(functools.partial(DECODERS[name], **values), axes)
