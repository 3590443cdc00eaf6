"""Maps of the features at every depth, their quality, and places for new cells: arrays only.

The methods that a user can name are in `methods.METHODS`. Torch is loaded by `tsne` alone, when a
map is made.
"""
