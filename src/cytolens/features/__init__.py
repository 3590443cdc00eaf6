"""What a network has learnt, as images: feature images, their modulation and their complexity."""
