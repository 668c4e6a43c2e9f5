"""Configurations of ``invdiff molecule run`` that ship with the package."""
