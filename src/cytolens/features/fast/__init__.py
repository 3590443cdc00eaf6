"""The network made lean for the ascent: a private copy that computes only what is read."""
