"""Figures and tables of a posterior."""
