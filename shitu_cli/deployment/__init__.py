"""The fourth step: exporting a trained network and proving that what was exported computes the same."""
