#!/usr/bin/env python3
"""Make the small DICOM files of host/tests/data/samples and own_pixels.json beside them.

They cover what no sample in ../shared does: every combination of sign, Bits Stored and filled unused bits, JPEG
baseline, JPEG lossless with each predictor, JPEG-LS with an error bound, HTJ2K. The expected stored values come from
the array that was encoded (lossless) or from another decoder (lossy); pydicom must agree wherever it can read.

Needs: imagecodecs, numpy, pydicom >= 3 (with pylibjpeg for the comparison).
"""
import hashlib
import json
import pathlib
import sys
import warnings
import zlib

import imagecodecs
import numpy as np
import pydicom
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate

UID = "1.2.840.10008.1.2"
OUT = pathlib.Path(__file__).resolve().parents[2] / "host" / "tests" / "data"
records = []


def write(name, syntax, pixels, expected, allocated, stored, signed, high_bit=None):
    """Write one file; `pixels` is a compressed frame or raw bytes, `expected` the stored values [rows, columns]."""
    dataset = Dataset()
    dataset.SOPClassUID = "1.2.840.10008.5.1.4.1.1.2"
    dataset.SOPInstanceUID = "2.25." + str(int(hashlib.sha256(name.encode()).hexdigest()[:30], 16))
    dataset.Modality = "CT"
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID = "2.25.1", "2.25.2"
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.Rows, dataset.Columns = expected.shape
    dataset.BitsAllocated, dataset.BitsStored = allocated, stored
    dataset.HighBit = stored - 1 if high_bit is None else high_bit
    dataset.PixelRepresentation = int(signed)
    dataset.RescaleSlope, dataset.RescaleIntercept = "1", "-1024"
    compressed = syntax not in (UID, UID + ".1", UID + ".2")
    dataset.PixelData = encapsulate([pixels]) if compressed else pixels
    dataset["PixelData"].VR = "OB" if compressed or allocated == 8 else "OW"
    dataset["PixelData"].is_undefined_length = compressed
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = syntax
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    path = OUT / "samples" / f"{name}.dcm"
    # pydicom does not know Deflated Image Frame Compression.
    if syntax == UID + ".8.1":
        dataset.preamble = b"\0" * 128
        pydicom.dcmwrite(path, dataset, implicit_vr=False, little_endian=True, force_encoding=True)
    else:
        pydicom.dcmwrite(path, dataset, enforce_file_format=True)
    try:
        seen = pydicom.dcmread(path).pixel_array
    except Exception as problem:
        print(f"{name}: pydicom cannot read it ({type(problem).__name__})")
    else:
        if high_bit is None and not np.array_equal(seen, expected):
            sys.exit(f"{name}: pydicom reads other values")
    values = np.ascontiguousarray(expected.astype("<i4"))
    records.append(
        {
            "path": f"samples/{name}.dcm",
            "transfer_syntax": syntax,
            "frame": 0,
            "rows": int(values.shape[0]),
            "columns": int(values.shape[1]),
            "sha256": hashlib.sha256(values.tobytes()).hexdigest(),
        }
    )


def picture(generator, bits, signed, shape=(40, 33)):
    """A smooth ramp with noise, a flat part (runs) and the extreme values."""
    rows, columns = np.mgrid[: shape[0], : shape[1]]
    span = 1 << bits
    values = (rows * 3 + columns * 5) * span // 400 + generator.integers(0, max(2, span // 64), shape)
    values[10:20] = span // 3
    values[0, :2] = (0, span - 1)
    values = values % span
    return values - span // 2 if signed else values


def main():
    warnings.simplefilter("ignore")
    (OUT / "samples").mkdir(parents=True, exist_ok=True)
    generator = np.random.default_rng(20240501)
    for allocated, widths in ((8, (6, 8)), (16, (9, 12, 13, 16))):
        for stored in widths:
            for signed in (False, True):
                for filled in (False, True):
                    expected = picture(generator, stored, signed, (7, 9))
                    cells = expected & ((1 << stored) - 1)
                    if filled:
                        cells = cells | (generator.integers(0, 1 << allocated, cells.shape) >> stored << stored)
                    elif signed:
                        cells = expected & ((1 << allocated) - 1)
                    raw = cells.astype("<u1" if allocated == 8 else "<u2").tobytes()
                    raw += b"\0" * (len(raw) % 2)
                    name = f"native_{allocated}_{stored}_{'s' if signed else 'u'}_{'filled' if filled else 'plain'}"
                    write(name, UID + ".1", raw, expected, allocated, stored, signed)
    for signed in (False, True):
        expected = picture(generator, 12, signed, (7, 9))
        cells = (expected & 4095) << 4 | generator.integers(0, 16, expected.shape)
        name = f"native_16_12_{'s' if signed else 'u'}_high_bit_15"
        write(name, UID + ".1", cells.astype("<u2").tobytes() + b"", expected, 16, 12, signed, high_bit=15)
        expected = picture(generator, 16, signed, (7, 9))
        write(f"big_endian_16_{'s' if signed else 'u'}", UID + ".2", (expected & 65535).astype(">u2").tobytes(), expected, 16, 16, signed)

    for predictor in range(1, 8):
        expected = picture(generator, 16, False)
        data = imagecodecs.jpeg8_encode(expected.astype("u2"), lossless=True, predictor=predictor, bitspersample=16)
        write(f"jpeg_lossless_{predictor}", UID + ".4.57", data, expected, 16, 16, False)
    expected = picture(generator, 12, True)
    data = imagecodecs.jpeg8_encode((expected & 4095).astype("u2"), lossless=True, predictor=1, bitspersample=12)
    write("jpeg_lossless_12_s", UID + ".4.70", data, expected, 16, 12, True)
    blocks = np.kron(generator.integers(0, 256, (5, 4)), np.ones((8, 8), int)).astype("u1")
    data = imagecodecs.jpeg8_encode(blocks, level=95)
    write("jpeg_baseline", UID + ".4.50", data, imagecodecs.jpeg8_decode(data).astype(int), 8, 8, False)

    for bits, near, signed in ((8, 0, False), (8, 3, False), (12, 0, False), (12, 2, True), (16, 0, True), (16, 5, False)):
        expected = picture(generator, bits, signed)
        codes = (expected & ((1 << bits) - 1)).astype("u1" if bits == 8 else "u2")
        data = jpegls(codes, bits, near)
        codes = imagecodecs.jpegls_decode(data).astype(int)
        expected = codes - ((codes >> (bits - 1)) << bits) if signed else codes
        name = f"jpeg_ls_{bits}_{'s' if signed else 'u'}_near_{near}"
        write(name, UID + (".4.81" if near else ".4.80"), data, expected, 8 if bits == 8 else 16, bits, signed)

    for bits, signed in ((8, False), (12, False), (16, False), (16, True)):
        expected = picture(generator, bits, signed)
        kind = ("i" if signed else "u") + ("1" if bits == 8 else "2")
        data = imagecodecs.htj2k_encode(expected.astype(kind))
        write(f"htj2k_{bits}_{'s' if signed else 'u'}", UID + ".4.201", data, expected, 8 if bits == 8 else 16, bits, signed)
    expected = picture(generator, 16, True)
    data = imagecodecs.jpeg2k_encode(expected.astype("i2"), level=0, reversible=True, codecformat="j2k")
    write("jpeg2000_16_s", UID + ".4.90", data, expected, 16, 16, True)

    write("jpeg_extended_8", UID + ".4.51", imagecodecs.jpeg8_encode(blocks, level=95), blocks.astype(int), 8, 8, False)
    expected = picture(generator, 12, False)
    data = imagecodecs.htj2k_encode(expected.astype("u2"))
    # The decoder is the same: these show that the UIDs are known.
    write("htj2k_lossy_uid", UID + ".4.203", data, expected, 16, 12, False)
    write("htj2k_rpcl_uid", UID + ".4.202", data, expected, 16, 12, False)
    deflate = zlib.compressobj(9, zlib.DEFLATED, -15)
    data = deflate.compress(expected.astype("<u2").tobytes()) + deflate.flush()
    write("deflated_frame", UID + ".8.1", data + b"\0" * (len(data) % 2), expected, 16, 12, False)

    text = ",\n".join("  " + json.dumps(record) for record in records)
    (OUT / "own_pixels.json").write_text(f"[\n{text}\n]\n")
    print(f"{len(records)} files")


def jpegls(codes, bits, near):
    """JPEG-LS of `bits` bits by pyjpegls where it is installed (imagecodecs knows 8 and 16 only)."""
    if bits in (8, 16):
        return imagecodecs.jpegls_encode(codes, level=near)
    import jpeg_ls

    rows, columns = codes.shape
    coded = jpeg_ls.encode_buffer(codes.tobytes(), rows, columns, 1, bits, near, 0)
    return bytes(coded)


if __name__ == "__main__":
    main()
