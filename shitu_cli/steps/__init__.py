"""What each command does, as functions that a program can call: the commands parse, call one of them and show."""
