"""The command line: a thin client of the public Python functions."""
