"""The whole study: the paper as a table of stages, each made once and kept in the run folder."""
