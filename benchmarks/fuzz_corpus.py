"""Small valid files of every format that is read, and the function that reads each: what `fuzz_readers.py` damages."""

from __future__ import annotations

import io
import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

import invdiff.weights
from invdiff.datasets import dicom, itk, measurement_file, nifti, reading
from invdiff.datasets.dicom import parametric_map, writer
from invdiff.datasets.dicom import projections as ct_pd
from invdiff.datasets.kspace import to_measurement
from invdiff.datasets.molecules.plumed import read_colvar, write_colvar
from invdiff.datasets.molecules.xyz import read_xyz
from invdiff.datasets.raw import bart, data_exchange, fastmri, ismrmrd, npy, twix
from invdiff.datasets.volume import Volume
from invdiff.datasets.weather import coarse, igra, metar, netcdf, stations
from invdiff.errors import FormatError, MissingExtraError
from invdiff.measurement import Measurement
from invdiff.noise import Gaussian
from invdiff.operators.matrix import Identity
from invdiff.posterior import Posterior
from invdiff.priors.loading import load_prior

__all__ = ["Case", "corpus"]

WEIGHTS = Path(invdiff.weights.__file__).parent
Case = tuple[str, Path, Callable[[Path], object]]  # a format, a valid file or folder, its reader

IGRA = [
    "#USM00070026 2010 06 01 12 1102    2 ncdc6301 ncdc6301  712889 -1567833",
    "10  1234  85000 " + " 1500B -105B  800    80    90   100 ",
    "20  1301  70000 " + " 2800B -205B  700    90   180    70 ",
]
METAR = [
    "station,valid,lon,lat,elevation,tmpf,dwpf,relh,drct,sknt,alti,mslp",
    "DEN,2020-01-02 06:53,-104.67,39.86,1656,50.00,41.00,71.2,270,10,29.92,1012.3",
    "JFK,2020-01-02 06:51,-73.76,40.64,7,M,50.00,M,VRB,3,30.01,M",
]
STATIONS = [
    "time,lat,lon,level,variable,value,error,units,station",
    "2019-03-25T12:00:00Z,51.5,-0.1,,t2m,10.0,0.5,degC,London",
    "2019-03-25 13:30+01:00,55.9,-3.2,850,eastward_wind,20,1,kt,Edinburgh",
]


def corpus(folder: Path) -> list[Case]:
    """Write the files into `folder`."""
    rng = np.random.default_rng(0)
    found = [*_images(folder, rng), *_kspace(folder, rng), *_tomography(folder, rng), *_weather(folder, rng),
             *_molecules(folder), *_ours(folder, rng)]  # fmt: skip
    return found + _doors({name: path for name, path, _ in found})


def _doors(paths: dict[str, Path]) -> list[Case]:
    """Files whose format is to be found by their content."""

    def kspace(path: Path) -> object:
        return reading.read(path, slice=0, sigma=0.1, coil_maps=torch.ones(3, 8, 12))

    def counts(path: Path) -> object:
        return reading.read(path, slice=0, centre=7.5)

    doors: dict[str, Callable[[Path], object]] = {
        "dicom-folder": reading.read_volume, "nii.gz": reading.read_volume, "mha": reading.read_volume,
        "fastmri": kspace, "dx.h5": counts, "measurement": reading.read,
    }  # fmt: skip
    return [(f"door-{name}", paths[name], reader) for name, reader in doors.items()]


def _volume(rng: np.random.Generator) -> Volume:
    affine = np.array([[0.0, 0.0, 1.5, -7], [0.0, 2.0, 0, 8], [3.0, 0, 0, 9], [0, 0, 0, 1]])
    return Volume(rng.normal(size=(3, 8, 9)).astype(np.float32), affine, "HU")


def _images(folder: Path, rng: np.random.Generator) -> list[Case]:
    volume = _volume(rng)
    writer.write(folder / "dicom", {"mean": volume}, anonymise=True)
    parametric_map.write(folder / "maps", {"std": volume})
    first = folder / "dicom" / "mean" / "0001.dcm"
    found: list[Case] = [
        ("dicom-file", first, dicom.read),
        ("dicom-folder", folder / "dicom" / "mean", dicom.read),
        ("dicom-enhanced", folder / "maps" / "std.dcm", dicom.read_all),
        *[(f"dicom-{name}", path, dicom.read) for name, path in _compressed(first, folder)],
        ("dicomdir", _dicomdir(folder / "dicom" / "mean", folder / "media"), dicom.read),
        ("dicom-ct-pd", _projections(folder / "pd"), ct_pd.read),
    ]
    for name in ("a.nii", "a.nii.gz"):
        found.append((name[2:], nifti.write(folder / name, volume), nifti.read))
    for name in ("a.mha", "a.nrrd"):
        found.append((name[2:], itk.write(folder / name, volume), itk.read))
    import SimpleITK

    image = SimpleITK.ReadImage(str(folder / "a.mha"))
    for name in ("packed.mha", "packed.nrrd"):
        SimpleITK.WriteImage(image, str(folder / name), True)
        found.append((name, folder / name, itk.read))
    return found


def _compressed(path: Path, folder: Path) -> list[tuple[str, Path]]:
    """The image in the compressed syntaxes that can be written or read here."""
    import pydicom
    from pydicom.data import get_testdata_file

    found = []
    for name, uid in (("rle", pydicom.uid.RLELossless), ("jpeg-ls", pydicom.uid.JPEGLSLossless)):
        image = pydicom.dcmread(path)
        try:
            image.compress(uid)
        except (RuntimeError, NotImplementedError):  # no encoder is installed
            continue
        image.save_as(folder / f"{name}.dcm")
        found.append((name, folder / f"{name}.dcm"))
    # No encoder of these is at hand: pixels of pydicom's own test files under our header, where a decoder is there.
    for name, source in (("jpeg", "JPGExtended.dcm"), ("jpeg-2000", "JPEG2000.dcm")):
        image, other = pydicom.dcmread(path), pydicom.dcmread(str(get_testdata_file(source, download=False)))
        for key in ("Rows", "Columns", "BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation", "PixelData"):
            setattr(image, key, getattr(other, key))
        image["PixelData"].VR = "OB"
        image.file_meta.TransferSyntaxUID = other.file_meta.TransferSyntaxUID
        image.save_as(folder / f"{name}.dcm")
        try:
            dicom.read(folder / f"{name}.dcm")
        except (MissingExtraError, FormatError):  # no decoder, or one that cannot do 12 bits
            continue
        found.append((name, folder / f"{name}.dcm"))
    return found


def _dicomdir(series: Path, folder: Path) -> Path:
    import pydicom
    from pydicom.fileset import FileSet

    files = FileSet()
    for path in sorted(series.iterdir()):
        image = pydicom.dcmread(path)
        image.StudyID, image.StudyDate, image.StudyTime = "1", "20200101", "120000"  # which a DICOMDIR needs
        files.add(image)
    files.write(folder)
    return folder / "DICOMDIR"


def _projections(folder: Path) -> Path:
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.uid import ExplicitVRLittleEndian, generate_uid

    folder.mkdir()
    for number in range(3):
        image = Dataset()
        image.file_meta = FileMetaDataset()
        image.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        image.SOPClassUID, image.SOPInstanceUID = "1.2.840.10008.5.1.4.1.1.2", generate_uid()
        image.file_meta.MediaStorageSOPClassUID = image.SOPClassUID
        image.file_meta.MediaStorageSOPInstanceUID = image.SOPInstanceUID
        image.Modality, image.InstanceNumber, image.RescaleSlope, image.RescaleIntercept = "CT", number, "0.001", "0"
        elements: list[tuple[int, str, Any]] = [
            (0x70291010, "US", 4), (0x70291011, "US", 8), (0x70291002, "FL", 1.5), (0x70291006, "FL", 2.0),
            (0x7029100B, "CS", "CYLINDRICAL"), (0x70311001, "FL", 0.1 * number), (0x70311002, "FL", 0.0),
            (0x70311003, "FL", 60.0), (0x70311031, "FL", 110.0), (0x70311033, "FL", [4.5, 2.5]),
            (0x70331065, "FL", [1e5] * 8), (0x70411001, "DS", "0.0192"),
        ]  # fmt: skip
        for tag, kind, value in elements:
            image.add_new(tag, kind, value)
        pixels = np.arange(32, dtype=np.uint16).reshape(8, 4) + number
        image.set_pixel_data(pixels, "MONOCHROME2", 16, generate_instance_uid=False)
        image.save_as(folder / f"{number}.dcm", enforce_file_format=True)
    return folder


def _kspace(folder: Path, rng: np.random.Generator) -> list[Case]:
    values = (rng.normal(size=(2, 3, 16, 12)) + 1j * rng.normal(size=(2, 3, 16, 12))).astype(np.complex64)
    np.save(folder / "k.npy", values)
    mask = torch.arange(12) % 5 != 1
    fastmri.write(folder / "fast.h5", torch.from_numpy(values) * mask, mask, reconstruction=torch.ones(2, 8, 8))
    bart.write(folder / "bart.cfl", values[0], ("coil", "x", "y"))

    def measured(path: Path) -> object:
        return to_measurement(npy.read(path), sigma=0.1)

    found: list[Case] = [
        ("npy", folder / "k.npy", npy.read),
        ("npy-measurement", folder / "k.npy", measured),
        ("fastmri", folder / "fast.h5", fastmri.read),
        ("bart-cfl", folder / "bart.cfl", bart.read),
        ("bart-hdr", folder / "bart.hdr", bart.read),
    ]
    found += _siemens(folder, values[0])
    try:
        import ismrmrd as standard
    except ImportError:
        return found
    with standard.Dataset(str(folder / "raw.h5"), "dataset") as file:
        file.write_xml_header(
            b'<ismrmrdHeader xmlns="http://www.ismrm.org/ISMRMRD"><encoding><encodedSpace><matrixSize><x>16</x><y>12</y>'
            b"<z>1</z></matrixSize><fieldOfView_mm><x>32</x><y>18</y><z>5</z></fieldOfView_mm></encodedSpace><reconSpace>"
            b"<matrixSize><x>8</x><y>12</y><z>1</z></matrixSize><fieldOfView_mm><x>16</x><y>18</y><z>5</z>"
            b"</fieldOfView_mm></reconSpace><encodingLimits><kspace_encoding_step_1><minimum>0</minimum><maximum>11"
            b"</maximum><center>6</center></kspace_encoding_step_1></encodingLimits><trajectory>cartesian</trajectory>"
            b"</encoding></ismrmrdHeader>"
        )
        for y in range(12):
            one = standard.Acquisition.from_array(np.ascontiguousarray(values[0, :, :, y]), center_sample=8)
            one.idx.kspace_encode_step_1 = y
            one.read_dir[:], one.phase_dir[:], one.slice_dir[:] = (1, 0, 0), (0, 1, 0), (0, 0, 1)
            file.append_acquisition(one)
    return [*found, ("ismrmrd", folder / "raw.h5", ismrmrd.read)]


def _siemens(folder: Path, values: np.ndarray[Any, Any]) -> list[Case]:
    """Raw data of software VB: a header of texts, and a head before the samples of every coil."""
    try:
        import mapvbvd  # noqa: F401
    except ImportError:
        return []
    text = (
        "### ASCCONV BEGIN ###\nsKSpace.lBaseResolution = 8\nsKSpace.lPhaseEncodingLines = 12\n\n### ASCCONV END ###\n"
    )
    header = struct.pack("<II", 10240, 1) + b"MeasYaps\0" + struct.pack("<I", len(text)) + text.encode()
    content = header + bytes(10240 - len(header))
    for y in [*range(12), -1]:
        for row in values[:, :, y]:
            head = struct.pack("<5I", 128 + 8 * len(row), 1, y + 1, 0, 0) + struct.pack("<IIHH", y < 0, 0, len(row), 3)
            head += struct.pack("<14H2H2HfI2H", max(y, 0), *[0] * 15, len(row) // 2, 0, 0.0, 0, 6, 0)
            content += head + bytes(128 - len(head)) + row.tobytes()
    (folder / "meas.dat").write_bytes(content + bytes(512))
    return [("twix", folder / "meas.dat", twix.read)]


def _tomography(folder: Path, rng: np.random.Generator) -> list[Case]:
    import h5py
    import netCDF4

    counts = rng.uniform(100, 900, (7, 2, 16)).astype(np.float32)
    degrees = np.linspace(0, 180, 7, endpoint=False)
    with h5py.File(folder / "dx.h5", "w") as file:
        file["exchange/data"], file["exchange/theta"] = counts, degrees
        file["exchange/data_white"] = np.full((3, 2, 16), 1000, np.float32)
        file["exchange/data_dark"] = np.full((3, 2, 16), 10, np.float32)
    kinds: dict[str, Any] = {"sino.nc": "NETCDF4", "sino3.nc": "NETCDF3_CLASSIC"}
    for name, kind in kinds.items():
        with netCDF4.Dataset(folder / name, "w", format=kind) as file:
            for dimension, size in (("row", 2), ("angle", 7), ("channel", 16)):
                file.createDimension(dimension, size)
            file.createVariable("sinogram", "f4", ("row", "angle", "channel"))[:] = counts.transpose(1, 0, 2)
            file.createVariable("angle", "f8", ("angle",))[:] = degrees
            file["angle"].units = "degrees"
    return [(name, folder / name, data_exchange.read) for name in ("dx.h5", "sino.nc", "sino3.nc")]


def _weather(folder: Path, rng: np.random.Generator) -> list[Case]:
    import xarray as xr

    for name, lines in (("igra.txt", IGRA), ("metar.csv", METAR), ("stations.csv", STATIONS)):
        (folder / name).write_text("\n".join(lines) + "\n", encoding="utf-8")
    fields = xr.Dataset(
        {"t2m": (("time", "latitude", "longitude"), rng.uniform(270, 290, (2, 3, 4)), {"units": "K"})},
        {
            "time": ("time", [0, 1], {"units": "hours since 2020-01-01"}),
            "latitude": ("latitude", [50.0, 49, 48], {"units": "degrees_north"}),
            "longitude": ("longitude", [0.0, 1, 2, 3], {"units": "degrees_east"}),
        },
    )
    found: list[Case] = [
        ("igra", folder / "igra.txt", igra.read_igra),
        ("metar", folder / "metar.csv", metar.read_metar),
        ("stations", folder / "stations.csv", stations.read_stations),
    ]
    try:
        import pyarrow.csv
        import pyarrow.parquet

        pyarrow.parquet.write_table(pyarrow.csv.read_csv(folder / "stations.csv"), folder / "stations.parquet")
        found.append(("parquet", folder / "stations.parquet", stations.read_stations))
    except ImportError:
        pass
    kinds: dict[str, Any] = {"fields.nc": "NETCDF4", "fields3.nc": "NETCDF3_CLASSIC"}
    for name, kind in kinds.items():
        fields.to_netcdf(folder / name, format=kind, engine="netcdf4")
        found.append((name, folder / name, netcdf.read_fields))

    def measured(path: Path) -> object:
        return coarse.read(path, factor=2, sigma=0.5, time=0)

    return [*found, ("coarse-field", folder / "fields.nc", measured)]


def _molecules(folder: Path) -> list[Case]:
    (folder / "water.xyz").write_text(
        "3\ncharge=0 multiplicity=1\nO 0.0 0.0 0.117\nH 0.0 0.757 -0.471\nH 0.0 -0.757 -0.471\n", encoding="utf-8"
    )
    write_colvar(folder / "colvar", {"time": [0.0, 1.0, 2.0], "phi": [0.1, 0.2, 0.3]})
    return [("xyz", folder / "water.xyz", read_xyz), ("plumed", folder / "colvar", read_colvar)]


def _ours(folder: Path, rng: np.random.Generator) -> list[Case]:
    y = torch.from_numpy(rng.normal(size=(1, 4, 5)).astype(np.float32))
    Measurement(y, Identity((1, 4, 5)), Gaussian(0.1), meta={"name": "a"}).save(folder / "measurement.nc")
    Posterior.from_draws(y.repeat(3, 1, 1, 1)).save(folder / "posterior.nc")
    return [
        ("measurement", folder / "measurement.nc", measurement_file.read),
        ("posterior", folder / "posterior.nc", Posterior.load),
        ("prior", Path(shutil.copy(WEIGHTS / "generic.safetensors", folder)), load_prior),
    ]


def gzipped(data: bytes) -> bytes:
    """Packed without name and date, so that the same content is the same file."""
    import gzip

    out = io.BytesIO()
    with gzip.GzipFile(fileobj=out, mode="wb", mtime=0) as file:
        file.write(data)
    return out.getvalue()
