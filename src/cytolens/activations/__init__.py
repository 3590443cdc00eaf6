"""What a network answers to cells, at every depth; knows only ``nn.Module``."""
