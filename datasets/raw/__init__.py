"""Measured data as scanners and laboratories store them.

- ``fastmri``: fastMRI HDF5 k-space, single- and multi-coil, in and out; reconstructions as a submission.
- ``ismrmrd`` (with ``ismrmrd_header``, ``ismrmrd_grid``): readouts one by one; ``twix``: the same of Siemens scanners.
- ``bart``, ``npy``: plain k-space arrays.
- ``data_exchange``: counts and sinograms of tomographs, in HDF5 and NetCDF.
"""
