"""Write reference.npz: inputs, and the results of the reference with OpenCV's blur.

    python -m tests.golden.make

Inputs are stored too, since the last bit of ``exp`` differs between machines.
"""

from pathlib import Path
from typing import Any

import numpy as np

from dark_jax import samples
from tests.support import oracle, synthetic

KERNELS = (1, 3, 5, 7, 11, 17)
FILE = Path(__file__).with_name("reference.npz")


def main() -> None:
    import cv2

    cases = synthetic.reference_cases((21, 18), count=4)
    maps = {"synthetic": np.concatenate(list(cases.values()))}
    maps["sample"] = samples.load().heatmaps[0].astype(np.float32)
    arrays: dict[str, Any] = {"maps": maps["synthetic"], "opencv": np.array(cv2.__version__)}
    for name, values in maps.items():
        for kernel in KERNELS:
            for field, column in oracle.answers(values, kernel).items():
                arrays[f"{name}/{kernel}/{field}"] = column
    np.savez_compressed(FILE, **arrays)
    print(f"{FILE.name}: {FILE.stat().st_size / 1e3:.0f} kB, OpenCV {cv2.__version__}")


if __name__ == "__main__":
    main()
