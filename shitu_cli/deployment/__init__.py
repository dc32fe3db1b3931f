"""The fourth step: export a trained network, and prove that the exported files compute the same."""
