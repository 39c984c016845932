"""Keypoints made from given numbers, for tests of the functions that use keypoints."""

from typing import Any

import jax
import numpy as np

from dark_jax import Keypoints


def covariance_of(keypoints: Keypoints) -> jax.Array:
    """The covariance of keypoints which have one."""
    assert keypoints.covariance is not None
    return keypoints.covariance


def keypoints_of(coords: Any, scores: Any, status: Any, covariance: Any = None) -> Keypoints:
    """Keypoints on a device, as a decoder returns them, but made without a compiled program."""
    return Keypoints(
        coords=jax.device_put(np.asarray(coords, np.float32)),
        scores=jax.device_put(np.asarray(scores, np.float32)),
        status=jax.device_put(np.asarray(status, np.int8)),
        covariance=None
        if covariance is None
        else jax.device_put(np.asarray(covariance, np.float32)),
    )
