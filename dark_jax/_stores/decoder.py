"""A decoder with its parameters, in a form that travels and that can be written down."""

import dataclasses
import enum
from dataclasses import dataclass
from typing import Any

import numpy as np

from dark_jax._codecs.decode import decode
from dark_jax._codecs.decode_fit import decode_fit
from dark_jax._core import optional
from dark_jax._core.keypoints import Keypoints
from dark_jax._io.plain_json import as_json
from dark_jax.rules import Rule


@dataclass(frozen=True)
class Decoder:
    """A decoder with its parameters, as they go to workers and are kept with what it makes."""

    axes: tuple[int, ...]
    rule: Rule
    kernel_size: int | None
    sigma: float | tuple[float, ...] | None
    fit: bool

    def __call__(self, heatmaps: Any) -> Keypoints:
        """Keypoints of an array."""
        if self.fit:
            return decode_fit(heatmaps, sigma=self.sigma, axes=self.axes)  # pyright: ignore[reportArgumentType]
        return decode(
            heatmaps,
            rule=self.rule,
            kernel_size=self.kernel_size,
            sigma=self.sigma,
            axes=self.axes,
        )

    def check_pickles(self) -> None:
        """TypeError unless it can be sent to another process, as dask sends it."""
        cloudpickle: Any = optional.load("cloudpickle", extra="store")
        try:
            cloudpickle.dumps(self)
        except Exception as error:  # whatever an object makes of it
            raise TypeError(
                f"rule must be picklable, to go to workers, got {self.rule!r} ({error})"
            ) from error

    def about(self) -> dict[str, Any]:
        """Its name and its parameters, as JSON can say them; of different ones never the same."""
        size = int(self.rule.kernel_size if self.kernel_size is None else self.kernel_size)
        sigma = None if self.sigma is None else np.asarray(self.sigma, float).tolist()
        return {
            "decoder": "decode_fit" if self.fit else "decode",
            **({} if self.fit else {"rule": _described(self.rule, size)}),
            **({"kernel_size": size} if sigma is None else {"sigma": sigma}),
            "axes": [int(axis) for axis in self.axes],
        }


def _described(rule: Rule, kernel_size: int) -> dict[str, Any]:
    """Every field of a rule, its kernel by the coefficients of a size."""
    fields = {field.name: getattr(rule, field.name) for field in dataclasses.fields(rule)}
    if rule.kernel is not None:
        fields["kernel"] = [float(f"{tap:.10g}") for tap in rule.kernel(kernel_size)]
    return as_json("rule", fields, other=_in_words)


def _in_words(value: Any) -> Any:
    """What JSON cannot say, of a rule's fields."""
    if isinstance(value, enum.Enum):
        return value.name
    if dataclasses.is_dataclass(value):
        return as_json("rule", vars(value), other=_in_words)
    if isinstance(value, float):
        return str(value)
    raise TypeError(f"a rule's fields must be numbers, names or tuples of them, got {value!r}")
