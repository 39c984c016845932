"""Keypoints made of numbers, for tests of what is done with them."""

from typing import Any

import jax
import numpy as np

from dark_jax import Keypoints


def keypoints_of(coords: Any, scores: Any, status: Any, covariance: Any) -> Keypoints:
    """On a device, as a decoder returns them, but without a program that makes them."""
    return Keypoints(
        coords=jax.device_put(np.asarray(coords, np.float32)),
        scores=jax.device_put(np.asarray(scores, np.float32)),
        status=jax.device_put(np.asarray(status, np.int8)),
        covariance=jax.device_put(np.asarray(covariance, np.float32)),
    )
