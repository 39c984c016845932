"""How many peaks of a crowd are found, and how exactly, by the distance between them."""

import numpy as np

import dark_jax
from tests.support import synthetic

SIZE = (64, 48)
PEAKS = 15
NOISE = 0.02
NEAR = 1.5


def rows() -> list[dict[str, str]]:
    """One row per separation, for several sigmas of the blobs and several ``min_distance``."""
    cases = [(sigma, 3) for sigma in (1.0, 1.5, 2.0)] + [(1.5, distance) for distance in (1, 2, 5)]
    found = []
    for sigma, distance in cases:
        for separation in (3.0, 4.0, 6.0, 8.0):
            maps, centres = synthetic.crowds(
                0, 60, SIZE, peaks=PEAKS, separation=separation, sigma=sigma, noise=NOISE
            )
            peaks = dark_jax.decode_peaks(maps, max_peaks=30, threshold=0.2, min_distance=distance)
            row = {
                "sigma": str(sigma),
                "min_distance": str(distance),
                "apart by more than": f"{separation} px",
            }
            found.append(row | score(peaks, centres))
    return found


def score(peaks: dark_jax.Keypoints, centres: list[np.ndarray]) -> dict[str, str]:
    """Precision, recall and mean error. A peak matches the nearest free centre within 1.5 px."""
    errors, decoded = [], 0
    for coords, scores, truth in zip(
        np.asarray(peaks.coords), np.asarray(peaks.scores), centres, strict=True
    ):
        free = np.ones(len(truth), bool)
        for point in coords[scores > 0]:
            decoded += 1
            distance = np.where(free, np.linalg.norm(truth - point, axis=1), np.inf)
            nearest = distance.argmin()
            if distance[nearest] < NEAR:
                free[nearest] = False
                errors.append(distance[nearest])
    return {
        "precision": f"{len(errors) / decoded:.3f}",
        "recall": f"{len(errors) / sum(map(len, centres)):.3f}",
        "mean error px": f"{np.mean(errors):.3f}",
    }
