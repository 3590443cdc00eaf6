"""The nouns: what flows from stage to stage, as frozen dataclasses over NumPy arrays.

A file per topic; import a record from the file of its topic. Nothing here imports torch, reads a
file or draws.
"""
