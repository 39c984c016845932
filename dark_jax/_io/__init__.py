"""Read heatmaps from files, and write tables of keypoints whole or not at all."""
