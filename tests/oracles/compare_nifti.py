#!/usr/bin/env python3
"""Compare a NIfTI file written by Gantry with what dcm2niix makes of the same DICOM series.

    compare_nifti.py DICOM_DIR OURS.nii.gz [--tilted]

Voxels (scaled) must be equal and in the same order, and affines equal within 1e-3 mm at the corners of the volume.
dcm2niix runs with `-x i`: by default it rotates 3D acquisitions to axial. With `--tilted` its affine is not compared:
for a tilted gantry it writes one that is not that of the slices. Our affine is always compared with the positions and
orientations in the DICOM files themselves. Needs nibabel, pydicom, numpy and dcm2niix. Exit status 0 means equal.
"""

import json
import subprocess
import sys
import tempfile
from itertools import product
from pathlib import Path

import nibabel
import numpy as np
import pydicom


def from_dicom(folder, affine):
    """Largest distance of our voxels from the slices' own corners, RAS millimetres; rows are flipped."""
    slices = [pydicom.dcmread(p, stop_before_pixels=True, force=True) for p in Path(folder).iterdir()]
    slices = [ds for ds in slices if "ImagePositionPatient" in ds]
    normal = np.cross(slices[0].ImageOrientationPatient[:3], slices[0].ImageOrientationPatient[3:])
    worst = 0.0
    for k, ds in enumerate(sorted(slices, key=lambda ds: float(np.dot(normal, ds.ImagePositionPatient)))):
        row, column = np.array(ds.ImageOrientationPatient[:3]), np.array(ds.ImageOrientationPatient[3:])
        dy, dx = map(float, ds.PixelSpacing)
        for y, x in product((0, ds.Rows - 1), (0, ds.Columns - 1)):
            lps = np.array(ds.ImagePositionPatient, dtype=float) + x * dx * row + y * dy * column
            ours = (affine @ [x, ds.Rows - 1 - y, k, 1])[:3]
            worst = max(worst, float(np.linalg.norm(ours - lps * [-1, -1, 1])))
    return worst


def corners(affine, shape):
    index = np.array([[*c, 1] for c in product(*[(0, n - 1) for n in shape[:3]])], dtype=float)
    return (affine @ index.T)[:3].T


def main():
    dicom, ours = sys.argv[1:3]
    tilted = "--tilted" in sys.argv[3:]
    with tempfile.TemporaryDirectory() as scratch:
        done = subprocess.run(["dcm2niix", "-z", "y", "-b", "n", "-x", "i", "-f", "out", "-o", scratch, dicom],
                              capture_output=True, text=True)
        made = [p for p in sorted(Path(scratch).glob("*.nii.gz")) if "_Tilt" not in p.name]
        if len(made) != 1:
            print(f"FAILED dcm2niix made {len(made)} files: {done.stdout[-500:]}")
            return 1
        theirs = nibabel.load(made[0])
        their_voxels = np.asanyarray(theirs.dataobj).astype(np.float64)
    image = nibabel.load(ours)
    voxels = np.asanyarray(image.dataobj).astype(np.float64)
    if voxels.shape != their_voxels.shape:
        print(f"FAILED shape {voxels.shape}, dcm2niix {their_voxels.shape}")
        return 1
    distance = np.abs(corners(image.affine, voxels.shape) - corners(theirs.affine, voxels.shape)).max()
    difference = np.abs(voxels - their_voxels).max()
    scale = max(1.0, np.abs(their_voxels).max())
    result = {"shape": voxels.shape, "dtype": str(image.get_data_dtype()), "dcm2niix_dtype": str(theirs.get_data_dtype()),
              "largest_voxel_difference": float(difference), "largest_corner_distance_mm": float(distance)}
    result["largest_distance_from_dicom_mm"] = from_dicom(dicom, image.affine)
    qform, code = image.get_qform(coded=True)
    if code:
        result["sform_to_qform_mm"] = float(np.abs(corners(qform, voxels.shape) - corners(image.affine, voxels.shape)).max())
    # Both programs may hold scaled values as f32: one rounding each.
    equal = difference <= 2 ** -23 * scale and (tilted or distance <= 1e-3)
    equal = equal and result["largest_distance_from_dicom_mm"] <= 5e-3
    print(("" if equal else "FAILED ") + json.dumps(result))
    return 0 if equal else 1


if __name__ == "__main__":
    sys.exit(main())
