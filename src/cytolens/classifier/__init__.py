"""The classifier: the reference network, its training and evaluation, or a network brought."""
