"""The first step: reading the layouts people have, checking every image, splitting, and writing lists and config."""
