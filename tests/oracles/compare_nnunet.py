#!/usr/bin/env python3
"""Compare labels written by Gantry with those of nnU-Net's predictor, and say whether each difference is a toss-up.

    compare_nnunet.py REFERENCE.nii.gz MARGIN.nii.gz OURS.nii.gz [--near 1e-3] [--per-million 58]

REFERENCE and MARGIN are from run_nnunet.py. The axes of all three are brought to the nearest RAS order first. Exit status 0
means: one grid (corners within 1e-3 mm), no voxel differs whose reference margin (0 where a rounding decides) is --near or
more, and at most --per-million of all voxels differ at all (58 is 20 of 345 600), though two always may. Prints one JSON object. Needs nibabel and numpy.
"""

import argparse
import json
import math
import sys
from itertools import product

import nibabel
import numpy as np

UNIT = 1e-5


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("reference")
    parser.add_argument("margin")
    parser.add_argument("ours")
    parser.add_argument("--near", type=float, default=1e-3)
    parser.add_argument("--per-million", type=float, default=58)
    options = parser.parse_args()
    reference, margin, ours = (
        nibabel.as_closest_canonical(nibabel.load(p)) for p in (options.reference, options.margin, options.ours))
    if not reference.shape == margin.shape == ours.shape:
        print(f"FAILED shapes {reference.shape}, margin {margin.shape}, ours {ours.shape}")
        return 1
    corners = np.array([[*c, 1] for c in product(*[(0, n - 1) for n in reference.shape])], dtype=float)
    distance = float(np.abs((reference.affine - ours.affine) @ corners.T).max())
    theirs = np.asanyarray(reference.dataobj).astype(np.int64)
    labels = np.asanyarray(ours.dataobj)
    if not np.array_equal(labels, np.round(labels)):
        print("FAILED ours holds fractions of labels")
        return 1
    differ = theirs != labels.astype(np.int64)
    steps = np.asanyarray(margin.dataobj).astype(np.int64)
    sure = differ & (steps >= round(options.near / UNIT))
    allowed = max(2, math.floor(options.per_million * theirs.size / 1e6))
    classes = {}
    for value in np.union1d(theirs, labels).astype(int):
        a, b = theirs == value, labels == value
        classes[str(value)] = round(2 * float((a & b).sum()) / float(a.sum() + b.sum()), 6)
    result = {
        "voxels": int(theirs.size), "differ": int(differ.sum()), "allowed": allowed, "differ_though_sure": int(sure.sum()),
        "largest_margin_where_different": float(steps[differ].max() * UNIT) if differ.any() else None,
        "toss_ups_in_reference": int((steps < round(options.near / UNIT)).sum()),
        "largest_corner_distance_mm": distance, "dice": classes,
    }
    held = distance <= 1e-3 and not sure.any() and differ.sum() <= allowed
    print(("" if held else "FAILED ") + json.dumps(result))
    return 0 if held else 1


if __name__ == "__main__":
    sys.exit(main())
