#!/usr/bin/env python3
"""Decode DICOM pixel data with pydicom (pylibjpeg, pyjpegls) and write checksums or arrays.

    pydicom_pixels.py FOLDER... --json OUT.json     one record a file and frame
    pydicom_pixels.py FILE --npy OUT.npy            stored values, int32, [frames, rows, columns]

A checksum is the SHA-256 of the stored values of one frame as little endian int32, row by row. Paths in the JSON are
relative to the folder above the given one, so that the Rust test can find them below ../shared/data.

Needs: pydicom >= 3, numpy, pylibjpeg, pylibjpeg-libjpeg, pylibjpeg-openjpeg (or python-gdcm).
"""
import argparse
import hashlib
import json
import pathlib
import warnings

import numpy as np
import pydicom


def frames(path):
    """Stored values of a monochrome file, int32 [frames, rows, columns]; None for what holds none."""
    dataset = pydicom.dcmread(path, force=True)
    if "PixelData" not in dataset or dataset.get("SamplesPerPixel", 1) != 1 or dataset.BitsAllocated == 1:
        return None
    if not hasattr(dataset.file_meta, "TransferSyntaxUID"):
        return None
    values = dataset.pixel_array
    if values.ndim == 2:
        values = values[None]
    if values.max(initial=0) > np.iinfo(np.int32).max:
        return None
    return values.astype("<i4")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("inputs", nargs="+", type=pathlib.Path)
    parser.add_argument("--json", type=pathlib.Path)
    parser.add_argument("--npy", type=pathlib.Path)
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    if arguments.npy:
        np.save(arguments.npy, frames(arguments.inputs[0]))
        return
    records = []
    for root in arguments.inputs:
        for path in sorted(p for p in root.rglob("*") if p.is_file()):
            if "".join(path.suffixes[-2:]) == ".nii.gz" or path.name.startswith(("LICENSE", "README")):
                continue
            try:
                values = frames(path)
            except Exception as problem:  # what the oracle cannot read is no reference
                print(f"{path.name}: {type(problem).__name__}: {str(problem)[:100]}")
                continue
            if values is None:
                continue
            uid = str(pydicom.dcmread(path, force=True, stop_before_pixels=True).file_meta.TransferSyntaxUID)
            for number, frame in enumerate(values):
                records.append(
                    {
                        "path": path.relative_to(root.parent).as_posix(),
                        "transfer_syntax": uid,
                        "frame": number,
                        "rows": int(frame.shape[0]),
                        "columns": int(frame.shape[1]),
                        "sha256": hashlib.sha256(np.ascontiguousarray(frame).tobytes()).hexdigest(),
                    }
                )
    text = ",\n".join("  " + json.dumps(record) for record in records)
    arguments.json.write_text(f"[\n{text}\n]\n")
    print(f"{len(records)} frames of {len({r['path'] for r in records})} files")


if __name__ == "__main__":
    main()
