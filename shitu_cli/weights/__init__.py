"""Published weights: find, download and read them, without running anything from the files."""
