"""Volumes from priors of single slices (`invdiff.priors.slices.SlicePrior`).

==============  ===============================================================================
``named``       entry points: ``mbir``, ``dds3d``, ``tpdm``, ``blend``, ``slicewise`` ...
``admm``        one sweep on the differences between slices
``mbir``        DiffusionMBIR: the sweep acts on the noisy volume
``dds3d``       the sweep acts on the denoised volume
``tpdm``        two perpendicular priors in turn
``coherent``    noise shared by all slices, or on a path from the first to the last
==============  ===============================================================================

What each does to the spread of the draws across slices is in docs/volumes.md.
"""
