"""Cameras, microscopes and detectors: blur, sampling, spectra, and the limits of a sensor.

- ``blur``, ``psf``, ``frame``: convolution and how an image goes on beyond its edge.
- ``resample``, ``inpainting``: fewer pixels, thicker slices, missing pixels.
- ``spectral``, ``emission``, ``phase_retrieval``: bands, attenuating objects, intensities.
- ``saturation``, ``quantisation``, ``jpeg``: what a converter and a coder do to the values.
"""
