"""Convert between heatmap pixels and image pixels: boxes, affine maps, crops, flips."""
