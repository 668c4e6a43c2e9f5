"""Files in and out, and procedural ground truths.

====================  ====================================================
``fastmri``           fastMRI HDF5 k-space, single- and multi-coil
``npy``               plain k-space arrays (coils, ky, kx)
``measurement_file``  the project's own measurement file
``phantoms``          ground truths for demos and training
====================  ====================================================

Each is a module to import, as in ``from invdiff.datasets import fastmri``.
"""

if __name__ != "invdiff.datasets":
    raise ImportError(
        f"this folder was imported as '{__name__}'; import it as 'invdiff.datasets' "
        "(and keep the root of the checkout off sys.path: a bare 'datasets' is another project's name)"
    )
