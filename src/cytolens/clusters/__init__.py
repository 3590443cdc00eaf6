"""Groups of cells found at a layer: how sure they are, how they differ, where they go.

The methods that a user can name are in `methods.METHODS`.
"""
