"""The run folder: the only place of the project that reads and writes results."""
