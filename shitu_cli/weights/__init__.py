"""Weights in files: reading them without running anything, in every common format."""
