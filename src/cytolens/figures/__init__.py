"""Records in, matplotlib Figures out: one file per subject. Nothing is shown or written."""
