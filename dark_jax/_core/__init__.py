"""What every wing needs: checks, keypoints, dtypes, batches, optional dependencies."""
