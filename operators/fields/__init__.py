"""Sensors of physical fields: stations, soundings, coarse grids, on flat maps and on the sphere.

- ``sensors``: points on a grid; ``axes``: where a point lies between the nodes.
- ``sphere``: area-weighted means of a latitude-longitude grid.
- ``vertical``, ``wind``: other pressure levels; speed of two components.
- ``windows``: one of several states that follow each other.
"""
