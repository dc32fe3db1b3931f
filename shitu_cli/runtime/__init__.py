"""Prepare Paddle and compiled loops: quietly, on the right number of threads."""
