"""What several rooms measure with: estimates, resampling, neighbours, probes. Arrays only."""
