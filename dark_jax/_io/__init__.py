"""Files: heatmaps that are read, tables of keypoints that are written whole or not at all."""
