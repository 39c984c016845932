"""The mathematics of one map: it knows no rule, no batch and no argument check."""
