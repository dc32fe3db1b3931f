"""The steps as functions that a program can call; a command parses its options, calls one, and shows the result."""
