#!/usr/bin/env python3
"""Verify what the DuCoSy chain with toy weights made of a chest CT, by pydicom and SimpleITK alone.

    verify_chain.py SOURCE_DIR DERIVED_DIR HEART.nii.gz

The derived series lies where its source lies, is de-identified and labelled, and equals the source bit by bit inside
the heart mask and wherever the source is outside both windows (below -1000 HU or above 250 HU). Exit status 0: it held.
"""

import json
import sys
from pathlib import Path

import numpy as np
import pydicom
import SimpleITK as sitk


def volume(folder):
    """The series of a folder as SimpleITK reads it, and its headers by file."""
    reader = sitk.ImageSeriesReader()
    series = reader.GetGDCMSeriesIDs(str(folder))
    assert len(series) == 1, f"{len(series)} series in {folder}"
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(folder), series[0]))
    return reader.Execute(), [pydicom.dcmread(p) for p in sorted(Path(folder).iterdir()) if p.is_file()]


def main():
    source, originals = volume(sys.argv[1])
    derived, headers = volume(sys.argv[2])
    failures = []

    def check(holds, text):
        if not holds:
            failures.append(text)

    check(source.GetSize() == derived.GetSize(), f"size {derived.GetSize()}, source {source.GetSize()}")
    for what in ["GetOrigin", "GetSpacing", "GetDirection"]:
        distance = np.abs(np.subtract(getattr(source, what)(), getattr(derived, what)())).max()
        check(distance < 1e-5, f"{what} differs by {distance}")
    check(len(headers) == len(originals), f"{len(headers)} instances of {len(originals)}")

    before = {str(ds.get(k)) for ds in originals for k in ["PatientName", "PatientID", "SOPInstanceUID",
              "SeriesInstanceUID", "StudyInstanceUID", "FrameOfReferenceUID"] if ds.get(k)}
    for ds in headers:
        check(ds.get("PatientIdentityRemoved") == "YES", "PatientIdentityRemoved")
        methods = [item.CodeValue for item in ds.get("DeidentificationMethodCodeSequence", [])]
        check("113100" in methods, f"de-identification codes {methods}")
        check(ds.get("SyntheticData") == "YES", "SyntheticData")
        check(ds.SeriesDescription.startswith("TOY") and "SYNTHETIC" in ds.SeriesDescription, ds.SeriesDescription)
        kept = {str(e.value) for e in ds.iterall()} & before
        check(not kept, f"{len(kept)} identifiers of the source are left")
    check(len({ds.SOPInstanceUID for ds in headers}) == len(headers), "SOP Instance UIDs are unique")

    was, now = sitk.GetArrayFromImage(source), sitk.GetArrayFromImage(derived)
    heart = sitk.Resample(sitk.ReadImage(sys.argv[3]), source, sitk.Transform(), sitk.sitkNearestNeighbor, 0)
    inside = sitk.GetArrayFromImage(heart) > 0
    outside = (was < -1000) | (was > 250)
    check(inside.sum() > 1000 and outside.sum() > 1000, "the masks prove nothing")
    check(np.array_equal(was[inside], now[inside]), f"{(was != now)[inside].sum()} voxels of the heart changed")
    check(np.array_equal(was[outside], now[outside]), f"{(was != now)[outside].sum()} voxels outside changed")
    changed = int((was != now).sum())
    check(changed > 0.05 * was.size, f"only {changed} voxels changed")

    print(json.dumps({"instances": len(headers), "heart_voxels": int(inside.sum()), "outside_voxels": int(outside.sum()),
                      "changed_voxels": changed, "failures": sorted(set(failures))}))
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
