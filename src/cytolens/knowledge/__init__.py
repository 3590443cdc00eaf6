"""What a network knows besides the class, what gives the label away, and which cells to doubt."""
