"""Heatmap pixels and image pixels: boxes, affine maps, crops, mirrors."""
