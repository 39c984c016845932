"""Heatmaps to coordinates and back, one public function a file."""
