"""A decoder with its parameters, in a form that travels and that can be written down."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from dark_jax import rules
from dark_jax._codecs.decode import decode
from dark_jax._codecs.decode_fit import decode_fit
from dark_jax._core.keypoints import Keypoints


@dataclass(frozen=True)
class Decoder:
    """A decoder with its parameters, as they go to workers and are kept with what it makes."""

    axes: tuple[int, ...]
    rule: str
    kernel_size: int | None
    sigma: float | tuple[float, ...] | None
    fit: bool

    def __call__(self, heatmaps: Any) -> Keypoints:
        """Keypoints of an array."""
        if self.fit:
            return decode_fit(heatmaps, sigma=self.sigma, axes=self.axes)  # pyright: ignore[reportArgumentType]
        return decode(
            heatmaps,
            rule=getattr(rules, self.rule),
            kernel_size=self.kernel_size,
            sigma=self.sigma,
            axes=self.axes,
        )

    def about(self) -> dict[str, Any]:
        """Its parameters, as JSON can say them."""
        if self.sigma is None:
            blur = {"kernel_size": int(self.kernel_size or getattr(rules, self.rule).kernel_size)}
        else:
            blur = {"sigma": np.asarray(self.sigma, float).tolist()}
        return {
            "decoder": "decode_fit" if self.fit else "decode",
            **({} if self.fit else {"rule": self.rule}),
            **blur,
            "axes": [int(axis) for axis in self.axes],
        }
