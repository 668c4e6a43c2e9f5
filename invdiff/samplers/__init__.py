"""Algorithms that draw from the posterior, by name."""
