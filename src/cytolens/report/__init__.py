"""The report: the results of a study told in order, on one self-contained HTML page."""
