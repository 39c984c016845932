"""A decoder for the blocks of a store, which can be pickled and described as JSON."""

import dataclasses
import enum
from typing import Any

import jax
import numpy as np

from dark_jax._codecs.bound import Bound, bound
from dark_jax._codecs.decode import decode
from dark_jax._codecs.decode_fit import decode_fit
from dark_jax._codecs.decode_peaks import decode_peaks
from dark_jax._codecs.decode_soft_argmax import decode_soft_argmax
from dark_jax._core import checks, optional
from dark_jax._io.plain_json import as_json
from dark_jax._stores.blocks import Blocks
from dark_jax.rules import Rule

# The decoders by their names on the command line.
DECODERS = {
    "dark": decode,
    "fit": decode_fit,
    "soft-argmax": decode_soft_argmax,
    "peaks": decode_peaks,
}
# Parameters that may differ from map to map. The number counts the axes of a parameter that follow
# the leading axes it shares with the maps.
OF_MAPS = {"background": 0, "sigma": 1, "temperature": 0, "threshold": 0}


class Decoder(Bound):
    """One of :data:`DECODERS` with its parameters, for the blocks of a store."""

    def of_block(self, blocks: Blocks, index: tuple[int, ...]) -> "Decoder":
        """Return the decoder of a block, with its part of each parameter that differs by map."""
        part = blocks.part(index)
        return dataclasses.replace(
            self,
            parameters={
                name: _taken(value, [along.start for along in part], blocks.size, OF_MAPS[name])
                if name in OF_MAPS
                else value
                for name, value in self.parameters.items()
            },
        )

    def check_pickles(self) -> None:
        """Raise TypeError unless all parameters can be pickled, as dask pickles them."""
        cloudpickle: Any = optional.load("cloudpickle", extra="store")
        for name, value in self.parameters.items():
            try:
                cloudpickle.dumps(value)
            except Exception as error:  # an object may raise anything
                raise TypeError(
                    f"{name} must be picklable, to go to workers, got {value!r} ({error})"
                ) from error

    def about(self) -> dict[str, Any]:
        """Return the name and parameters as JSON; different decoders never give the same."""
        parameters = dict(self.parameters)
        rule = parameters.get("rule")
        if isinstance(rule, Rule):
            size = int(parameters["kernel_size"] or rule.kernel_size)
            parameters["rule"] = _described(rule, size)
            if parameters["blur_sigma"] is None:
                parameters["kernel_size"] = size
        return {
            "decoder": self.name,
            **as_json("decoder", parameters, other=_in_words),
            "axes": [int(axis) for axis in self.axes],
        }


def for_blocks(decoder: Any, axes: Any) -> Decoder:
    """Check the ``decoder`` and ``axes`` that ``decode_store`` is given, and bind them.

    Raises:
        TypeError: ``decoder`` is neither one of :data:`DECODERS` nor a partial of one.
    """
    found = bound(decoder, axes)
    if found.function not in DECODERS.values():
        names = ", ".join(f"dark_jax.{each.__name__}" for each in DECODERS.values())
        raise TypeError(
            f"decoder must be one of {names}, or a functools.partial of one, got {decoder!r}"
        )
    # Workers may lack the device that holds a JAX array.
    parameters = {
        name: np.asarray(value) if isinstance(value, jax.Array) else value
        for name, value in found.parameters.items()
    }
    sigma = checks.numpy_array("sigma", parameters.get("sigma"))
    if any(side > 1 for side in sigma.shape[:-1]) and parameters["radius"] is None:
        raise TypeError(
            "radius must be given where sigma differs from map to map, such as ceil(2 sigma) of "
            f"the largest: got radius=None, sigma of shape {sigma.shape}"
        )
    return Decoder(found.function, found.axes, parameters)


def _taken(value: Any, starts: list[int], sizes: tuple[int, ...], own: int) -> Any:
    """Return the entries of a parameter for a block; the last one repeats past the end."""
    lead = np.ndim(value) - own
    if value is None or lead <= 0:
        return value
    array = np.asarray(value)
    for axis in range(lead):
        if array.shape[axis] > 1:
            at = axis - lead  # axes are matched from the last one
            wanted = range(starts[at], starts[at] + sizes[at])
            array = np.take(array, wanted, axis, mode="clip")
    return array


def _described(rule: Rule, kernel_size: int) -> dict[str, Any]:
    """Return the fields of a rule as JSON, its kernel as the coefficients for one size."""
    fields = {field.name: getattr(rule, field.name) for field in dataclasses.fields(rule)}
    if rule.kernel is not None:
        fields["kernel"] = [float(f"{tap:.10g}") for tap in rule.kernel(kernel_size)]
    return as_json("rule", fields, other=_in_words)


def _in_words(value: Any) -> Any:
    """Convert a field of a rule that JSON cannot represent."""
    if isinstance(value, enum.Enum):
        return value.name
    if dataclasses.is_dataclass(value):
        return as_json("rule", vars(value), other=_in_words)
    if isinstance(value, float):
        return str(value)
    raise TypeError(f"a rule's fields must be numbers, names or tuples of them, got {value!r}")
