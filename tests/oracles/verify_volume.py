#!/usr/bin/env python3
"""Checks gantry-volume's results against scipy, scikit-image, nibabel, numpy and (if installed) nnU-Net: every bit.

    verify_volume.py FOLDER

FOLDER has cases.json, written by gantry-volume's test `oracle`: a list of cases, each with its kind, its arguments, and
arrays {"file", "type", "shape"} of raw little-endian values. The volumes are [z, y, x]. Exit 1 if anything differs.
"""

import json
import pathlib
import sys

import nibabel as nib
import numpy as np
from scipy import ndimage
from skimage.transform import resize

try:
    from nnunetv2.preprocessing.resampling.default_resampling import resample_data_or_seg_to_shape
except ImportError:
    resample_data_or_seg_to_shape = None


def zoom(case, image):
    turned = image.T if case["axes"] == "xyz" else image
    new = case["new_size"][::-1] if case["axes"] == "xyz" else case["new_size"]
    out = ndimage.zoom(turned.astype(np.float64), np.divide(new, turned.shape), order=case["order"], mode="nearest")
    assert out.shape == tuple(new), (out.shape, new)
    return (out.T if case["axes"] == "xyz" else out).astype(case["output"]["type"])


def resized(case, image):
    out = resize(image.astype(np.float64), case["new_size"], order=case["order"], mode="edge", anti_aliasing=False)
    return out.astype(np.float32)


def separate_axis(current, new, force):
    for mm in (current, new):
        if force or (force is None and max(mm) / min(mm) > 3):
            longest = [a for a in range(3) if mm[a] == max(mm)]
            return longest[0] if len(longest) == 1 else None
    return None


def resample_channel(case, channel, axis):
    """nnU-Net's rule, where nnU-Net is not installed: planes apart, then the nearest plane."""
    new, given = case["new_size"], channel.astype(np.float64)
    settings = {"order": case["order"], "mode": "edge", "anti_aliasing": False}
    if axis is None:
        return resize(given, new, **settings)
    planes = [resize(p, [n for a, n in enumerate(new) if a != axis], **settings) for p in np.moveaxis(given, axis, 0)]
    scale = len(planes) / new[axis]
    nearest = np.clip(np.floor(scale * (np.arange(new[axis]) + 0.5)).astype(int), 0, len(planes) - 1)
    return np.moveaxis(np.stack(planes)[nearest], 0, axis)


def resample(case, data):
    if list(data.shape[1:]) == case["new_size"]:
        return data
    if resample_data_or_seg_to_shape is None:
        axis = separate_axis(case["current_mm"], case["new_mm"], case["force"])
        return np.stack([resample_channel(case, c, axis) for c in data]).astype(data.dtype)
    return resample_data_or_seg_to_shape(
        data, case["new_size"], np.array(case["current_mm"]), np.array(case["new_mm"]), is_seg=False,
        order=case["order"], order_z=0, force_separate_z=case["force"])


def labels(case, logits):
    return resample(case, logits).argmax(0)


def zscore(case, image, mask):
    inside = mask != 0 if case["masked"] else np.ones(image.shape, bool)
    out = image.copy()
    if case["masked"]:
        out[inside] = (image[inside] - image[inside].mean()) / max(image[inside].std(), 1e-8)
    else:
        out -= image.mean()
        out /= max(image.std(), 1e-8)
    return out


def holes(case, mask):
    if case["slices"]:
        return np.stack([ndimage.binary_fill_holes(plane) for plane in mask])
    return ndimage.binary_fill_holes(mask)


def components(case, mask):
    labelled, count = ndimage.label(mask)
    centres = np.array(ndimage.center_of_mass(mask, labelled, range(1, count + 1))).reshape(-1, 3)
    assert np.array_equal(centres, np.array(case["centroids"]).reshape(-1, 3)), "centroids"
    return labelled


def dilate(case, mask):
    return ndimage.binary_dilation(mask, iterations=case["iterations"]) if case["iterations"] else mask


def importance(case, _):
    window = case["window"]
    image = np.zeros(window)
    image[tuple(n // 2 for n in window)] = 1
    image = ndimage.gaussian_filter(image, [n / 8 for n in window], 0, mode="constant", cval=0)
    image = (image / (image.max() / 10)).astype(np.float16)
    image[image == 0] = image[image != 0].min()
    return image


def canonical(case, volume):
    affine = np.vstack([np.array(case["affine"]).reshape(3, 4), [0, 0, 0, 1]])
    affine = np.diag([-1, -1, 1, 1]) @ affine
    image = nib.as_closest_canonical(nib.Nifti1Image(volume.T, affine))
    lps = (np.diag([-1, -1, 1, 1]) @ image.affine)[:3]
    assert np.allclose(lps.ravel(), case["canonical"], atol=1e-9), "canonical affine"
    return np.asarray(image.dataobj).T


CHECKS = {f.__name__: f for f in (zoom, resized, resample, labels, zscore, holes, components, dilate, importance, canonical)}


def main():
    folder = pathlib.Path(sys.argv[1])
    counts, wrong = {}, []

    def load(array):
        return np.fromfile(folder / array["file"], np.dtype(array["type"])).reshape(array["shape"])

    for case in json.loads((folder / "cases.json").read_text()):
        kind = case["kind"]
        ours = load(case["output"])
        try:
            theirs = CHECKS[kind](case, *[load(a) for a in case["inputs"]])
        except AssertionError as error:
            wrong.append(f"{case}: {error}")
            continue
        theirs = np.ascontiguousarray(theirs.astype(ours.dtype))
        counts[kind] = counts.get(kind, 0) + 1
        if ours.shape != theirs.shape:
            wrong.append(f"{case}: shape {theirs.shape}")
        elif ours.tobytes() != theirs.tobytes() and not np.array_equal(ours, theirs):
            at = np.argwhere(ours != theirs)
            wrong.append(f"{case}: {len(at)} of {ours.size} differ, first {ours[tuple(at[0])]} {theirs[tuple(at[0])]}")
    by = "scikit-image" if resample_data_or_seg_to_shape is None else "nnU-Net"
    print(", ".join(f"{kind} {count}" for kind, count in counts.items()), f"(resampling by {by})")
    missing = CHECKS.keys() - counts.keys()
    if wrong or missing:
        sys.exit("\n".join(wrong + [f"no case of {kind}" for kind in missing]))


if __name__ == "__main__":
    main()
