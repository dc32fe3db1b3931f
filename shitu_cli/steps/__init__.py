"""What each command does, as functions that a program can call: commands parse, call one, and show its result."""
