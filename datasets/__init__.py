"""Files in and out, and procedural ground truths.

====================  ====================================================
``fastmri``           fastMRI HDF5 k-space, single- and multi-coil
``npy``               plain k-space arrays (coils, ky, kx)
``measurement_file``  the project's own measurement file
``dicom``             DICOM series in; ``dicom_write`` and ``dicom_map``: derived series and parametric maps out
``nifti``             NIfTI in and out
``netcdf``            gridded fields from NetCDF, Zarr and GRIB by CF; ``ensemble``: draws out as such
``stations``          tables of observations; ``igra`` (soundings) and ``metar`` (airports) give the same
``weather``           fields and observations as measurements; ``coarse``: a coarse field alone
``phantoms``          ground truths for demos and training
====================  ====================================================

Each is a module to import, as in ``from invdiff.datasets import fastmri``.
"""

if __name__ != "invdiff.datasets":
    raise ImportError(
        f"this folder was imported as '{__name__}'; import it as 'invdiff.datasets' "
        "(and keep the root of the checkout off sys.path: a bare 'datasets' is another project's name)"
    )
