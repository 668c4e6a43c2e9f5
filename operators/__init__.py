"""Forward models: y = A(x) + noise.

=========================  ===========================================================
``Operator``               the contract and its algebra (``invdiff.operators.base``)
``Matrix``                 a dense matrix acting on vectors
``Identity``               direct observation
``MRI``                    Cartesian multi-coil SENSE, complex native
``DiagonalisedMRI``        the same with exact proximal steps, for whole readouts
``MRI3D``, ``DynamicMRI``  Cartesian volumes and series
``NonCartesianMRI``        any trajectory, 2D or 3D, off-resonance
``PhaseConstraint``        complex images of known phase (partial Fourier)
``PhaseRetrieval``         magnitude or intensity of a linear map
``ParallelCT``             tomography with parallel beams, 2D and 3D; `FanCT`, `ConeCT`
``Diagonal``               a weight for every entry
``Fourier``                centred orthonormal transform along any axes
``Inpainting``             some pixels are observed
``Blur``                   convolution, four boundaries, 1D to 3D
``SpaceVariantBlur``       a sum of kernels with weights over the field
``Separable``              a matrix along each of several axes
``Resample``               antialiased resampling
``Strided``                every f-th pixel
``SliceProfile``           thick slices of a volume
``PointSensors``           stations on flat or spherical grids
``Coarsen``                area-weighted means of a latitude-longitude grid
``VerticalInterpolation``  other pressure levels, in ln p
``WindSpeed``              speed of two components
``BandResponse``           broad bands of a spectrum
``CodedAperture``          spectral snapshot behind a mask
``Saturation``             limits of a detector
``Quantisation``           steps of a converter
``JPEG``                   block transform coding
``BeerLambert``            intensities behind an attenuating object
``molecular``              collective variables and observables of molecules: `invdiff.operators.molecular`
``as_operator``            what deepinv, sigpy, pylops or scipy call an operator
=========================  ===========================================================

The names above are loaded on first use; ``invdiff.operators.mri.masks`` and other modules by importing them.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if __name__ != "invdiff.operators":
    raise ImportError(
        f"this folder was imported as '{__name__}'; import it as 'invdiff.operators' "
        "(and keep the root of the checkout off sys.path)"
    )

if TYPE_CHECKING:
    from invdiff.operators.base import Operator as Operator
    from invdiff.operators.ct import ConeCT as ConeCT
    from invdiff.operators.ct import FanCT as FanCT
    from invdiff.operators.ct import ParallelCT as ParallelCT
    from invdiff.operators.diagonal import Diagonal as Diagonal
    from invdiff.operators.fields.sensors import PointSensors as PointSensors
    from invdiff.operators.fields.sphere import Coarsen as Coarsen
    from invdiff.operators.fields.vertical import VerticalInterpolation as VerticalInterpolation
    from invdiff.operators.fields.wind import WindSpeed as WindSpeed
    from invdiff.operators.foreign import as_operator as as_operator
    from invdiff.operators.imaging.blur import Blur as Blur
    from invdiff.operators.imaging.blur import SpaceVariantBlur as SpaceVariantBlur
    from invdiff.operators.imaging.emission import BeerLambert as BeerLambert
    from invdiff.operators.imaging.inpainting import Inpainting as Inpainting
    from invdiff.operators.imaging.jpeg import JPEG as JPEG
    from invdiff.operators.imaging.phase_retrieval import PhaseRetrieval as PhaseRetrieval
    from invdiff.operators.imaging.quantisation import Quantisation as Quantisation
    from invdiff.operators.imaging.resample import Resample as Resample
    from invdiff.operators.imaging.resample import SliceProfile as SliceProfile
    from invdiff.operators.imaging.resample import Strided as Strided
    from invdiff.operators.imaging.saturation import Saturation as Saturation
    from invdiff.operators.imaging.spectral import BandResponse as BandResponse
    from invdiff.operators.imaging.spectral import CodedAperture as CodedAperture
    from invdiff.operators.matrix import Identity as Identity
    from invdiff.operators.matrix import Matrix as Matrix
    from invdiff.operators.mri.diagonalised import DiagonalisedMRI as DiagonalisedMRI
    from invdiff.operators.mri.nufft import NonCartesianMRI as NonCartesianMRI
    from invdiff.operators.mri.partial_fourier import PhaseConstraint as PhaseConstraint
    from invdiff.operators.mri.sense import MRI as MRI
    from invdiff.operators.mri.volumes import MRI3D as MRI3D
    from invdiff.operators.mri.volumes import DynamicMRI as DynamicMRI
    from invdiff.operators.separable import Separable as Separable
    from invdiff.operators.transforms import Fourier as Fourier

__all__ = [
    "Diagonal",
    "Fourier",
    "Inpainting",
    "Blur",
    "SpaceVariantBlur",
    "Separable",
    "Resample",
    "Strided",
    "SliceProfile",
    "PointSensors",
    "Coarsen",
    "VerticalInterpolation",
    "WindSpeed",
    "BandResponse",
    "CodedAperture",
    "Saturation",
    "Quantisation",
    "JPEG",
    "BeerLambert",
    "as_operator",
    "MRI",
    "MRI3D",
    "DynamicMRI",
    "DiagonalisedMRI",
    "NonCartesianMRI",
    "PhaseConstraint",
    "ConeCT",
    "FanCT",
    "Identity",
    "Matrix",
    "Operator",
    "ParallelCT",
    "PhaseRetrieval",
]

_HOME = {
    "Diagonal": "diagonal",
    "Fourier": "transforms",
    "Inpainting": "imaging.inpainting",
    "Blur": "imaging.blur",
    "SpaceVariantBlur": "imaging.blur",
    "Separable": "separable",
    "Resample": "imaging.resample",
    "Strided": "imaging.resample",
    "SliceProfile": "imaging.resample",
    "PointSensors": "fields.sensors",
    "Coarsen": "fields.sphere",
    "VerticalInterpolation": "fields.vertical",
    "WindSpeed": "fields.wind",
    "BandResponse": "imaging.spectral",
    "CodedAperture": "imaging.spectral",
    "Saturation": "imaging.saturation",
    "Quantisation": "imaging.quantisation",
    "JPEG": "imaging.jpeg",
    "BeerLambert": "imaging.emission",
    "as_operator": "foreign",
    "ConeCT": "ct",
    "FanCT": "ct",
    "ParallelCT": "ct",
    "Operator": "base",
    "Matrix": "matrix",
    "Identity": "matrix",
    "MRI": "mri.sense",
    "MRI3D": "mri.volumes",
    "DynamicMRI": "mri.volumes",
    "DiagonalisedMRI": "mri.diagonalised",
    "NonCartesianMRI": "mri.nufft",
    "PhaseConstraint": "mri.partial_fourier",
    "PhaseRetrieval": "imaging.phase_retrieval",
}


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
    raise AttributeError(f"module '{__name__}' has no attribute '{name}'")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
