"""Exact posteriors, distances, calibration and conformance suites."""
