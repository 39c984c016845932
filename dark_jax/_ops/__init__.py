"""The mathematics of one map, without rules, batches or argument checks."""
