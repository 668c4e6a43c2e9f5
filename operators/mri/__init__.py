"""Magnetic resonance: the forward models, and what has to be known before they can be written down.

- ``sense``, ``volumes``, ``diagonalised``, ``partial_fourier``: Cartesian acquisitions, on ``cartesian``.
- ``nufft``: any trajectory, with ``nonuniform``, ``toeplitz``, ``density`` and ``offresonance`` behind it.
- ``masks``, ``poisson_disc``: which positions of k-space are measured.
- ``coils``, ``coil_maps``, ``coil_mixing``, ``compression``, ``whitening``, ``noise_level``: the receiver.
"""
