"""Test the paper's claim on real images: sub-pixel decoding matters more for smaller maps.

    python -m tests.benchmarks.resolution [--data FOLDER] [--steps N]

A small network is trained on frames with labelled keypoints at three input sizes. Its maps of
other frames are decoded in several ways. This needs ``pip install --group train``.
"""
