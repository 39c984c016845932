"""Boxes, points and affines for the tests of conventions."""

from typing import Any

import jax
import numpy as np
import pytest

import dark_jax
from dark_jax import conventions

SIZE = (64, 48)
POINTS = np.array([[0.0, 0.0], [10.0, 20.0], [47.0, 63.0], [23.6, 31.2], [-3.0, 70.5]])
# A wide box, a tall one, one with the map's aspect, a tiny one, and one outside the image in part.
BOXES = np.array(
    [
        [100.0, 50.0, 300.0, 200.0],
        [20.5, 30.25, 60.0, 310.0],
        [0.0, 0.0, 192.0, 256.0],
        [7.0, 9.0, 5.5, 3.25],
        [-40.0, -10.0, 500.0, 333.0],
    ]
)

each_convention = pytest.mark.parametrize("convention", conventions.CONVENTIONS, ids=str)


def affine(convention: conventions.Convention, boxes: Any = BOXES, **options: Any) -> jax.Array:
    return dark_jax.box_to_affine(boxes, map_size=SIZE, convention=convention, **options)


def affine_of(convention: conventions.Convention, box: Any, **options: Any) -> jax.Array:
    """The affine of one box, by the program of the other tests, which takes five boxes."""
    return affine(convention, np.broadcast_to(box, BOXES.shape), **options)[0]
