"""The parts of a study made by other machines: over Dask, or as an array of jobs."""
