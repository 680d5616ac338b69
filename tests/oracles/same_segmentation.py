#!/usr/bin/env python3
"""Verify that a DICOM Segmentation and a NIfTI label file hold the same labels at the same places, by highdicom and nibabel.

    same_segmentation.py SEGMENTATION.dcm LABELS.nii.gz

A segment of a BINARY object stands for the label value at the end of its Segment Description. Exit status 0: it held.
"""

import re
import sys

import highdicom
import nibabel
import numpy as np


def main():
    seg = highdicom.seg.segread(sys.argv[1])
    nifti = nibabel.load(sys.argv[2])
    labels = np.asarray(nifti.dataobj).astype(int)
    to_voxel = np.linalg.inv(nifti.affine)
    present = set(np.unique(labels)) - {0}
    assert present, "the label file is empty"
    found = np.zeros_like(labels)
    for segment in seg.segment_numbers:
        text = str(seg.get_segment_description(segment).get("SegmentDescription", segment))
        value = int(re.findall(r"\d+", text)[-1])
        volume = seg.get_volume(segment_numbers=[segment], combine_segments=True, relabel=True)
        inside = np.argwhere(volume.array != 0)
        if not len(inside):  # asked for, and not found
            continue
        points = inside @ volume.affine[:3, :3].T + volume.affine[:3, 3]
        points[:, :2] *= -1  # LPS to RAS
        voxels = points @ to_voxel[:3, :3].T + to_voxel[:3, 3]
        nearest = np.rint(voxels).astype(int)
        assert np.abs(voxels - nearest).max() < 1e-2, "a voxel lies between the label file's"
        found[tuple(nearest.T)] = value
    apart = int((found != labels).sum())
    print(f"{len(seg.segment_numbers)} segments, {int((labels != 0).sum())} voxels, {apart} differ")
    sys.exit(1 if apart else 0)


if __name__ == "__main__":
    main()
