"""The paper's claim on real images: sub-pixel decoding matters more the smaller the map is.

    python -m tests.benchmarks.resolution [--data FOLDER] [--steps N]

A small network is trained on frames with labelled keypoints at three input sizes, and its maps
of frames it has not seen are decoded in several ways. Needs ``pip install --group train``.
"""
