"""Simulated cells with the truth about them."""
