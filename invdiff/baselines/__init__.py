"""Classical reconstructions to compare with."""
