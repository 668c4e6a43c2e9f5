"""Measured data as scanners and laboratories store them.

- ``fastmri`` (with ``ismrmrd_header``): fastMRI HDF5 k-space, single- and multi-coil.
- ``npy``: plain k-space arrays (coils, ky, kx).
"""
