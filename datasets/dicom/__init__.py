"""DICOM in and out.

- ``reader``: one volume per series, with ``files`` (which files are images of which series) and ``series`` (where
  their slices stand).
- ``projections``: projections of a clinical CT scanner (DICOM-CT-PD).
- ``writer``: maps of a posterior as derived series; ``parametric_map``: the same as 32-bit parametric maps.
"""

from invdiff.datasets.dicom.reader import read, read_all, recognise

__all__ = ["read", "read_all", "recognise"]
