"""TODO: filled by the room that owns it."""
