"""Cells from files and arrays: readers, checks, preparation. No torch."""
