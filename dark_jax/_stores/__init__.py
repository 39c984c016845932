"""Decode stores of heatmaps block by block, so that they need not fit in memory."""
