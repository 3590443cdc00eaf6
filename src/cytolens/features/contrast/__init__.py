"""The same cell with less and with more of what a network looks for, and how far to believe it."""
