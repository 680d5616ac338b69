"""Makes demo.png of the README: one slice without contrast medium, what the chain made of it, and the real contrast series.

    gantry demo -o DEMO
    python docs/images/montage.py DEMO/input/phantom DEMO/results docs/images/demo.png

Needs pydicom, numpy, pillow. The window shown is -160 to 340 HU.
"""

import pathlib
import sys

import numpy as np
import pydicom
from PIL import Image

LOW_HU, HIGH_HU, SCALE, GAP_PX = -160.0, 340.0, 3, 6


def series(folder):
    """Voxels in HU [z, y, x], slices ascending along z."""
    slices = sorted(map(pydicom.dcmread, folder.glob("*.dcm")), key=lambda s: float(s.ImagePositionPatient[2]))
    return np.stack([s.pixel_array * float(s.RescaleSlope) + float(s.RescaleIntercept) for s in slices])


def main(phantom, results, picture):
    made = [series(folder) for folder in sorted(results.glob("c-*/write"))]
    rows = []
    for patient in sorted(phantom.glob("patient-*"))[:2]:
        plain, contrast = series(patient / "POST VUE"), series(patient / "POST STD")
        # The result's folder is a pseudonym: outside the windows it still is the patient's own image.
        synthetic = min(made, key=lambda m: np.abs(m - plain).mean())
        z = int(0.55 * len(plain))
        middle = slice(len(plain[z]) * 15 // 100, len(plain[z]) * 85 // 100)
        rows.append(np.concatenate([gap(v[z][middle]) for v in (plain, synthetic, contrast)], axis=1))
    Image.fromarray(np.concatenate(rows)).quantize(64).save(picture, optimize=True)


def gap(plane):
    grey = np.clip((plane - LOW_HU) / (HIGH_HU - LOW_HU), 0, 1) * 255
    large = grey.astype(np.uint8).repeat(SCALE, 0).repeat(SCALE, 1)
    return np.pad(large, GAP_PX // 2)


main(*map(pathlib.Path, sys.argv[1:4]))
