#!/usr/bin/env python3
"""Compare two NIfTI files as images in space: same_nifti.py OURS TRUTH

The axes of both are brought to the nearest RAS order first; then voxels must be equal and corners lie within 1e-2 mm.
Needs nibabel and numpy. Exit status 0 means equal.
"""

import json
import sys
from itertools import product

import nibabel
import numpy as np


def main():
    # A fourth axis of length 1 says nothing.
    ours, truth = (nibabel.as_closest_canonical(nibabel.funcs.squeeze_image(nibabel.load(p))) for p in sys.argv[1:3])
    if ours.shape != truth.shape:
        print(f"FAILED shape {ours.shape}, truth {truth.shape}")
        return 1
    index = np.array([[*c, 1] for c in product(*[(0, n - 1) for n in ours.shape[:3]])], dtype=float)
    distance = float(np.abs((ours.affine - truth.affine) @ index.T).max())
    values = [np.asanyarray(i.dataobj).astype(np.float64) for i in (ours, truth)]
    difference = float(np.abs(values[0] - values[1]).max())
    equal = difference <= 2**-23 * max(1.0, np.abs(values[1]).max()) and distance <= 1e-2
    print(("" if equal else "FAILED ") + json.dumps(
        {"shape": ours.shape, "largest_voxel_difference": difference, "largest_corner_distance_mm": distance}))
    return 0 if equal else 1


if __name__ == "__main__":
    sys.exit(main())
