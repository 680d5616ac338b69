#!/usr/bin/env python3
"""nnU-Net's own predictor on cases made of one scan: what another implementation is compared with.

    run_nnunet.py CT.nii.gz MODELS OUT [--make] [--only NAME ...] [--threads 2]

MODELS is what make_nnunet_models.py wrote; --make calls it first. Writes the cases (OUT/cases/<case>.nii.gz) and for each run
OUT/<run>.nii.gz, the labels; OUT/<run>-margin.nii.gz, by how much the decision was made, on the same grid, in steps of
1e-5 up to 0.0025 (of labels the distance between the two highest logits, of regions the least distance from the
threshold; 0 where one rounding of the half-precision logits in each of the two decides); and OUT/index.json, one object a run: name, model (relative to MODELS), channel, case,
file, orientation, mirror, folds, step, threads, seconds, peak_bytes (of the whole process so far), voxels, shares (of each
label).

Logits are the half-precision ones that nnU-Net decides on, after resampling to the case's grid. Cases, all int16:

    iso         80 x 72 x 60 voxels of 1.5 mm, the spacing of the model `plain`
    zeroborder  other spacings along each axis, planes of zeros at three borders: cropped to what is not zero
    permuted    axes stored as superior, left, anterior, two of them against the usual direction
    thick       1.4 x 1.4 x 5 mm
    oblique     turned about two axes; no axis lies along the patient's
    small       smaller than every patch
    slab        3 slices of 5 mm

Needs nnunetv2, nibabel and scipy.
"""

import argparse
import io
import json
import resource
import sys
import time
from contextlib import redirect_stdout
from pathlib import Path

import nibabel
import numpy as np
import torch
from scipy import ndimage

import make_nnunet_models

UNIT = 1e-5
# Some of nnU-Net's writers make one byte of everything.
MOST = 250
# Model, case, mirrored, folds (None: all there are), step.
RUNS = [
    ("plain", "iso", False, (0,), 0.5),
    ("plain", "iso", True, (0,), 0.5),
    ("plain", "iso", False, None, 0.8),
    ("plain", "zeroborder", False, (1,), 0.5),
    ("plain", "small", True, (0, 1), 0.5),
    ("residual", "permuted", False, (0,), 0.5),
    ("residual", "permuted", True, (0,), 0.5),
    ("residual", "oblique", False, (0,), 0.5),
    ("anisotropic", "thick", False, (0,), 0.5),
    ("anisotropic", "iso", False, (0,), 0.5),
    ("anisotropic", "slab", False, (0,), 0.5),
    ("regions", "permuted", False, (0,), 0.5),
    ("regions", "thick", False, (0,), 0.5),
    ("inherits", "zeroborder", False, (0,), 0.5),
    ("inherits", "oblique", False, (0,), 0.8),
    ("zscore", "permuted", False, None, 0.5),
]


def piece(image, start, shape, spacing=None):
    """A part of the scan, resampled where a spacing (x, y, z) is given: voxels and affine."""
    voxels = np.asarray(image.dataobj)[tuple(slice(s, s + n) for s, n in zip(start, shape))].astype(np.float64)
    affine = image.affine.copy()
    affine[:3, 3] = (image.affine @ [*start, 1])[:3]
    if spacing is not None:
        old = np.linalg.norm(affine[:3, :3], axis=0)
        made = ndimage.zoom(voxels, old / spacing, order=1, mode="nearest", grid_mode=True)
        affine[:3, :3] *= np.array(spacing) / old
        voxels = made
    return voxels, affine


def stored_as(voxels, affine, code):
    """The same image with its axes in another order and direction."""
    image = nibabel.Nifti1Image(voxels, affine)
    to = nibabel.orientations.axcodes2ornt(code)
    turn = nibabel.orientations.ornt_transform(nibabel.io_orientation(affine), to)
    turned = image.as_reoriented(turn)
    return np.asarray(turned.dataobj), turned.affine


def turned_affine(affine):
    """The grid turned by 20 degrees about the patient's axis and 15 about the transverse one."""
    a, b = np.radians(20), np.radians(15)
    about_z = np.array([[np.cos(a), -np.sin(a), 0], [np.sin(a), np.cos(a), 0], [0, 0, 1]])
    about_x = np.array([[1, 0, 0], [0, np.cos(b), -np.sin(b)], [0, np.sin(b), np.cos(b)]])
    made = affine.copy()
    made[:3, :3] = about_x @ about_z @ affine[:3, :3]
    return made


def cases(scan):
    """Name -> voxels (x, y, z) and affine."""
    image = nibabel.load(scan)
    made = {"iso": piece(image, (20, 15, 25), (80, 72, 60))}
    voxels, affine = piece(image, (10, 12, 20), (86, 80, 84), (1.9, 1.75, 2.4))
    voxels[:2] = voxels[:, -3:] = voxels[:, :, :1] = 0
    made["zeroborder"] = voxels, affine
    made["permuted"] = stored_as(*piece(image, (14, 10, 22), (84, 78, 80), (1.8, 1.6, 1.7)), "SLA")
    made["thick"] = piece(image, (12, 10, 2), (90, 84, 108), (1.4, 1.4, 5.0))
    voxels, affine = piece(image, (24, 18, 30), (72, 70, 62), (1.65, 1.5, 1.4))
    made["oblique"] = voxels, turned_affine(affine)
    made["small"] = piece(image, (44, 40, 50), (30, 26, 20))
    made["slab"] = piece(image, (16, 14, 40), (88, 76, 10), (1.4, 1.5, 5.0))
    return made


def margins(logits, roundings, regions):
    """Steps of 1e-5 between the decision and the next best, [z, y, x] as uint8, at most MOST.

    `roundings`, like the logits [c, z, y, x]: what one half-precision step of each is, brought to this grid.
    """
    logits, roundings = (torch.as_tensor(np.asarray(of)).float() for of in (logits, roundings))
    if regions:
        margin = torch.where(logits.abs() <= roundings, 0, logits.abs()).amin(0)
    else:
        best, which = logits.topk(2, dim=0)
        margin = best[0] - best[1]
        margin[margin <= roundings.gather(0, which).sum(0)] = 0
    # Rounded down: a margin of 1e-3 or more never looks smaller, a smaller one never greater.
    steps = np.floor(margin.double().numpy() / UNIT)
    return np.minimum(steps, MOST).astype(np.uint8)


class Model:
    """A model folder in nnU-Net's predictor."""

    def __init__(self, folder, mirror, folds, step):
        from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor

        self.predictor = nnUNetPredictor(tile_step_size=step, use_mirroring=mirror, device=torch.device("cpu"), allow_tqdm=False)
        self.predictor.initialize_from_trained_model_folder(str(folder), folds, "checkpoint_final.pth")

    def predict(self, file, out):
        """Labels and margins of one file, written; the seconds of all but the margins."""
        from nnunetv2.inference.export_prediction import export_prediction_from_logits

        p = self.predictor
        plans, configuration = p.plans_manager, p.configuration_manager
        started = time.perf_counter()
        preprocessor = configuration.preprocessor_class(verbose=False)
        data, _, properties = preprocessor.run_case([str(file)], None, plans, configuration, p.dataset_json)
        logits = p.predict_logits_from_preprocessed_data(torch.from_numpy(np.asarray(data))).cpu()
        export_prediction_from_logits(logits, properties, configuration, plans, p.dataset_json, str(out))
        seconds = time.perf_counter() - started

        spacing = [properties["spacing"][axis] for axis in plans.transpose_forward]
        shape = properties["shape_after_cropping_and_before_resampling"]
        half_steps = np.spacing(np.abs(logits.numpy())).astype(np.float32)
        full, roundings = (configuration.resampling_fn_probabilities(of, shape, configuration.spacing, spacing)
                           for of in (logits, half_steps))
        # Outside the part that is not zero everything is background by decree.
        steps = np.full(properties["shape_before_cropping"], MOST, np.uint8)
        box = tuple(slice(low, high) for low, high in properties["bbox_used_for_cropping"])
        steps[box] = margins(full, roundings, p.label_manager.has_regions)
        writer = plans.image_reader_writer_class()
        writer.write_seg(steps.transpose(plans.transpose_backward), f"{out}-margin.nii.gz", properties)
        return seconds


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("scan", type=Path)
    parser.add_argument("models", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--make", action="store_true", help="make the models first")
    parser.add_argument("--only", nargs="+", help="models [default: all]")
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    if options.make:
        make_nnunet_models.write(options.scan, options.models, options.only)
    (options.out / "cases").mkdir(parents=True, exist_ok=True)
    orientation = {}
    for name, (voxels, affine) in cases(options.scan).items():
        image = nibabel.Nifti1Image(np.round(voxels).astype(np.int16), affine)
        image.header.set_xyzt_units("mm")
        nibabel.save(image, options.out / "cases" / f"{name}.nii.gz")
        orientation[name] = "".join(nibabel.aff2axcodes(affine))
    index = []
    for model, case, mirror, folds, step in RUNS:
        if options.only and model not in options.only:
            continue
        (folder,) = (options.models / model).glob("Dataset*/*__*__*")
        name = "-".join([model, case, "mirrored" if mirror else "plain",
                         "folds" + ("all" if folds is None else "".join(map(str, folds))), f"step{step}"])
        file = options.out / "cases" / f"{case}.nii.gz"
        with redirect_stdout(io.StringIO()):
            seconds = Model(folder, mirror, folds, step).predict(file, options.out / name)
        labels = np.asarray(nibabel.load(options.out / f"{name}.nii.gz").dataobj)
        values, counts = np.unique(labels, return_counts=True)
        index.append({
            "name": name, "model": str(folder.relative_to(options.models)),
            "channel": json.loads((folder / "dataset.json").read_text())["channel_names"]["0"], "case": case, "file": f"cases/{case}.nii.gz",
            "orientation": orientation[case], "mirror": mirror, "folds": None if folds is None else list(folds),
            "step": step, "threads": options.threads, "seconds": round(seconds, 3),
            "peak_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024, "voxels": int(labels.size),
            "shares": {str(int(v)): round(float(c / labels.size), 3) for v, c in zip(values, counts)},
        })
        print(json.dumps(index[-1]), flush=True)
        if len(values) < 2:
            sys.exit(f"run_nnunet.py: {name}: one label everywhere proves nothing")
    (options.out / "index.json").write_text(json.dumps(index, indent=1))


if __name__ == "__main__":
    main()
