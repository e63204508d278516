"""Classifiers on penultimate features, one per file, and the calibration of their scores."""
