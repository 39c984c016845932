"""Heatmaps to coordinates and back, with one public function per file."""
