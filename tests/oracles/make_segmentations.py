#!/usr/bin/env python3
"""Writes segmentations of a series with highdicom, for a reader that did not write them.

    make_segmentations.py SOURCE_DIR OUT_DIR

Needs highdicom, numpy and pydicom. OUT_DIR gets expected.u8 (labels 0, 1, 2 of every voxel, slices ascending along row x
column) and: binary.dcm, labelmap.dcm, rle.dcm (a label map, RLE), reversed.dcm (made from the source in reversed order),
palette.dcm (a label map with palette colours), overlapping.dcm, fractional.dcm.
"""

import sys
from pathlib import Path

import highdicom as hd
import numpy as np
import pydicom
from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code

STRUCTURES = [("heart", "80891009", "Heart"), ("aorta", "15825003", "Aorta")]


def along(ds):
    o = [float(v) for v in ds.ImageOrientationPatient]
    return float(np.dot(np.cross(o[:3], o[3:]), [float(v) for v in ds.ImagePositionPatient]))


def describe(number, name, code, meaning, coloured):
    algorithm = hd.AlgorithmIdentificationSequence("oracle", codes.cid7162.ArtificialIntelligence, "1")
    return hd.seg.SegmentDescription(
        number, name, codes.SCT.Organ, Code(code, "SCT", meaning),
        hd.seg.SegmentAlgorithmTypeValues.AUTOMATIC, algorithm,
        display_color=hd.color.CIELabColor(54.29, 80.81, 69.89) if coloured else None)


def main():
    source, out = (Path(a) for a in sys.argv[1:])
    series = sorted((pydicom.dcmread(p) for p in source.rglob("*") if p.is_file()), key=along)
    rows, columns = series[0].Rows, series[0].Columns
    rng = np.random.default_rng(7)
    labels = np.zeros((len(series), rows, columns), np.uint8)
    z = len(series)
    labels[z // 4: z // 2, 2:-3, 3: columns // 2] = rng.integers(0, 2, (z // 2 - z // 4, rows - 5, columns // 2 - 3))
    labels[z // 3: z - 1, rows // 2:, columns // 2 + 1:] = 2
    labels[-1, 0, -1] = 1
    labels.tofile(out / "expected.u8")

    def write(name, images, array, kind, **more):
        coloured = "palette_color_lut_transformation" not in more
        described = [describe(i + 1, *s, coloured) for i, s in enumerate(STRUCTURES)]
        hd.seg.Segmentation(images, array, kind, described, hd.UID(), 900, hd.UID(), 1, "Oracle", "highdicom", "1", "1",
                            **more).save_as(out / f"{name}.dcm")

    write("binary", series, labels, "BINARY")
    write("labelmap", series, labels, "LABELMAP")
    write("rle", series, labels, "LABELMAP", transfer_syntax_uid=pydicom.uid.RLELossless)
    write("reversed", series[::-1], labels[::-1], "BINARY")
    table = hd.PaletteColorLUTTransformation.from_colors(["black", "red", "blue"])
    write("palette", series, labels, "LABELMAP", palette_color_lut_transformation=table)
    both = np.stack([labels == 1, labels >= 1], axis=-1).astype(np.uint8)
    write("overlapping", series, both, "BINARY")
    write("fractional", series, (labels == 1)[..., None].astype(np.float32) * np.array([0.5, 0.25], np.float32),
          "FRACTIONAL")


if __name__ == "__main__":
    main()
