"""Getting Paddle and compiled loops ready: quietly, on the right number of threads."""
