"""Files in and out, and procedural ground truths.

======================  ==================================================
``reading``             the door: any file, recognised by its content
``volume``              what images are once read, in their place
``kspace``              raw k-space, and the measurement made of it
``projections``         raw projections, and the measurement made of them
``measurement_file``    the project's own measurement file
``outputs``             maps of a posterior as image files
``nifti``, ``itk``      NIfTI, MetaImage and NRRD in and out
``dicom``               DICOM series and projections in, derived series out
``raw``                 measured data as scanners and laboratories store them
``weather``             fields and observations of the atmosphere
``molecules``           structures, trajectories and biases of molecules
``phantoms``            ground truths for demos and training
======================  ==================================================

Each is a module to import, as in ``from invdiff.datasets.raw import fastmri``.
"""

if __name__ != "invdiff.datasets":
    raise ImportError(
        f"this folder was imported as '{__name__}'; import it as 'invdiff.datasets' "
        "(and keep the root of the checkout off sys.path: a bare 'datasets' is another project's name)"
    )
