"""The report: the results of a study in order, on one self-contained HTML page."""
