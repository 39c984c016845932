"""Code that every subpackage needs: checks, keypoints, dtypes, batches, optional dependencies."""
