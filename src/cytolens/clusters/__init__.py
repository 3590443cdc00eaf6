"""Groups of cells found at a layer: how sure they are, what tells them apart, where they go.

The methods that a user can name are in `methods.METHODS`.
"""
