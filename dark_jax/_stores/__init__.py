"""Stores of heatmaps that need not fit memory, decoded block by block."""
