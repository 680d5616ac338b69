#!/usr/bin/env python3
"""The cost of one scan: Gantry against nnU-Net's predictor and TotalSegmentator, taking turns in one run.

    bench_nnunet.py GANTRY CT.nii.gz FOLDER [--rounds 1] [--threads 2] [--precision f32 auto] [--only TASK ...]
                    [--rivals 1] [--reduced] [--json FILE]

GANTRY is the staged program; CT.nii.gz any chest CT, which is mirrored to 512 x 512 x 300 voxels of 0.75 x 0.75 x 1 mm.
FOLDER keeps scan and models for the next call. Models have random weights and the shapes of TotalSegmentator's: 1.5 mm, six
stages of 32 to 320 features, patch 128 x 128 x 128, 19 classes; and 6 mm, five stages, 118 classes, whose weights are set so
that it finds a cube of 150 mm that the scan holds, brighter than all else. Tasks:

    whole   the 1.5 mm model over the whole scan, step 0.8: Gantry against nnU-Net's predictor
    heart   the heart alone: 6 mm model over the scan, a crop around what it finds, the 1.5 mm model in one window there:
            Gantry against TotalSegmentator, where that is installed

Everything is timed from the start of the process to the label file on disk; the predictor also says how long it was in the
network. Memory is that of all processes at once (nnunet_measure.py). Differing voxels are counted against the rival's.
--reduced: a small scan and small networks, to try the script. Needs nnunetv2 (requirements-nnunet.txt), nibabel and
scipy; about 16 GB of memory and ten minutes a round on two cores for what nnU-Net does.
"""

import argparse
import csv
import json
import statistics
import sys
import time
from pathlib import Path

import nibabel
import numpy as np

import nnunet_measure
from nnunet_pipeline import pipeline

HERE = Path(__file__).resolve().parent
CARDIAC = "Dataset293_TotalSegmentator_part3_cardiac_1559subj"
ROUGH = "Dataset298_TotalSegmentator_total_6mm_1559subj"
CUBE_MM, CUBE_HU = 150.0, 2600
HEART = 51
CLASSES = HERE.parents[1] / "plugin-api/weights/data/totalsegmentator-total.csv"


class Sizes:
    """The benchmark's sizes, or those to try the script with."""

    def __init__(self, reduced):
        self.scan, self.spacing = ((160, 160, 96), (1.5, 1.5, 2.0)) if reduced else ((512, 512, 300), (0.75, 0.75, 1.0))
        self.fine = [8, 16, 24, 32] if reduced else [32, 64, 128, 256, 320, 320]
        self.coarse = [8, 16, 24] if reduced else [32, 64, 128, 256, 320]
        self.patch = 64 if reduced else 128
        self.cube_mm = 50.0 if reduced else CUBE_MM
        # The whole scan at 6 mm in one patch, a multiple of what the strides divide by.
        unit = 2 ** (len(self.coarse) - 1)
        self.rough_patch = [int(np.ceil(n * mm / 6 / unit) * unit) for n, mm in zip(self.scan, self.spacing)][::-1]


def make_scan(source, path, sizes):
    """The CT at the wanted spacing, mirrored to the wanted size, with a bright cube in the middle."""
    from scipy import ndimage

    image = nibabel.as_closest_canonical(nibabel.load(source))
    zoom = np.array(image.header.get_zooms()[:3], dtype=float) / sizes.spacing
    voxels = ndimage.zoom(np.asarray(image.dataobj).astype(np.float32), zoom, order=1, mode="nearest", grid_mode=True)
    voxels = np.pad(voxels, [(0, max(0, want - have)) for want, have in zip(sizes.scan, voxels.shape)], "symmetric")
    voxels = np.clip(voxels[tuple(slice(0, n) for n in sizes.scan)], -1024, 1500).astype(np.int16)
    half = [round(sizes.cube_mm / mm / 2) for mm in sizes.spacing]
    cube = voxels[tuple(slice(n // 2 - h, n // 2 + h) for n, h in zip(sizes.scan, half))]
    cube += np.int16(CUBE_HU)
    affine = np.diag([-sizes.spacing[0], -sizes.spacing[1], sizes.spacing[2], 1.0])
    made = nibabel.Nifti1Image(voxels, affine)
    made.header.set_xyzt_units("mm")
    nibabel.save(made, path)


def finds_the_cube(network, patch):
    """Weights that carry the brightness through the highest stage, and call the brightest heart."""
    import torch

    network.decoder.deep_supervision = False
    first, last = network.encoder.stages[0][0].convs, network.decoder.stages[-1].convs
    features, centre = first[0].conv.out_channels, (1, 1, 1)
    with torch.no_grad():
        # Of what is joined before the last stage, the skip connection comes second.
        for block, channel in [(first[0], 0), (first[1], 0), (last[0], features), (last[1], 0)]:
            block.conv.weight[0] = 0
            block.conv.weight[(0, channel, *centre)] = 1
            block.conv.bias[0], block.norm.weight[0], block.norm.bias[0] = 0, 1, 0
        head = network.decoder.seg_layers[-1]
        head.weight.zero_()
        head.bias.fill_(-1000.0)
        head.weight[HEART, 0], head.bias[HEART], head.bias[0] = 1, 0, 0
        network.eval()
        bright = network(patch)[0, HEART]
        head.bias[HEART] = -float((bright.max() + torch.quantile(bright.flatten()[::7], 0.9)) / 2)
        return float((network(patch)[0].argmax(0) == HEART).float().mean())


def models(sizes):
    """Both models for make_nnunet_models.py."""
    import make_nnunet_models as make

    def convolutions(features):
        stages = len(features)
        strides = [make.SAME] + [make.HALVE] * (stages - 1)
        return make.old_architecture(features[0], features[-1], strides, [make.CUBE] * stages, 2)

    fine = make.configuration([sizes.patch] * 3, [1.5] * 3, **convolutions(sizes.fine))
    coarse = make.configuration(sizes.rough_patch, [6.0] * 3, **convolutions(sizes.coarse))
    bright = {"0": {**make.INTENSITIES, "percentile_99_5": 4000.0}}
    return [
        dict(
            plans=make.plans(CARDIAC, "nnUNetPlans", {"3d_fullres": fine}),
            dataset=make.dataset(labels(HEART, 68)), folds=[0], share=0.001,
            trainer="nnUNetTrainerNoMirroring", step_on=[64, 64, 64]),
        dict(
            plans={**make.plans(ROUGH, "nnUNetPlans", {"3d_fullres": coarse}),
                   "foreground_intensity_properties_per_channel": bright},
            dataset=make.dataset(labels(1, 117)), folds=[0], share=0.001, weights=finds_the_cube,
            trainer="nnUNetTrainer_4000epochs_NoMirroring", step_on=[32, 32, 32]),
    ]


def labels(first, last):
    """Classes of TotalSegmentator's task `total` by name, numbered from 1."""
    with open(CLASSES, newline="") as file:
        rows = csv.DictReader(line for line in file if not line.startswith("#"))
        names = [row["name"] for row in rows if first <= int(row["value"]) <= last]
    return {"background": 0, **{name: value for value, name in enumerate(names, 1)}}


def prepare(options, sizes):
    """Scan and models, where they are not there from an earlier call."""
    import make_nnunet_models as make

    folder = options.folder / ("reduced" if options.reduced else "full")
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "scan").mkdir(exist_ok=True)
    scan, root = folder / "scan" / "scan.nii.gz", folder / "weights"
    if not scan.exists():
        make_scan(options.ct, scan, sizes)
    if not root.exists():
        unfinished = folder / "weights.part"
        for model in models(sizes):
            make.write(scan, unfinished, wanted={"": model})
        unfinished.rename(root)
    return folder, scan, root


def predictor(model, scan, out, threads):
    """What the child process does for nnU-Net: the predictor as it is, no worker processes."""
    import torch
    from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor

    torch.set_num_threads(threads)
    made = nnUNetPredictor(tile_step_size=0.8, use_mirroring=False, device=torch.device("cpu"), allow_tqdm=False)
    made.initialize_from_trained_model_folder(str(model), (0,), "checkpoint_final.pth")
    inside = [0.0, 0]
    network = made._internal_maybe_mirror_and_predict

    def timed(x):
        started = time.perf_counter()
        result = network(x)
        inside[0] += time.perf_counter() - started
        inside[1] += 1
        return result

    made._internal_maybe_mirror_and_predict = timed
    made.predict_from_files_sequential([[str(scan)]], [str(out).removesuffix(".nii.gz")])
    print(json.dumps({"in_network_s": inside[0], "windows": inside[1]}))


def gantry(options, folder, task, precision):
    """One run of Gantry: what was measured, and its labels."""
    params = f'checkpoint = "{task}", precision = "{precision}"'
    params += ", step = 0.8" if task == "whole" else ', structures = ["heart"]'
    path = pipeline(folder / f"{task}-{precision}.toml", "nifti-read", params)
    out = folder / f"gantry-{task}-{precision}"
    command = [options.gantry, "run", path, "-i", folder / "scan", "-o", out, "--checkpoints", folder / "checkpoints", "--fresh"]
    measured = nnunet_measure.run(command, options.threads)
    if measured.code != 0:
        sys.exit(f"bench_nnunet.py: gantry ended with {measured.code}:\n{measured.stdout[-2000:]}{measured.stderr[-4000:]}")
    (labels,) = out.rglob("labels.nii.gz")
    return measured, labels


def rival(options, folder, scan, root, task):
    """One run of the rival: what was measured, and its labels; nothing where it is not installed."""
    out = folder / f"theirs-{task}.nii.gz"
    if task == "whole":
        (model,) = (root / CARDIAC).iterdir()
        command = [sys.executable, "-W", "ignore", __file__, "--predictor", model, scan, out, options.threads]
        environment = {name: str(folder) for name in ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results")}
    else:
        command = [sys.executable, "-W", "ignore", HERE / "prove_totalsegmentator.py", "--totalsegmentator", scan, out,
                   json.dumps({"roi_subset": ["heart"]})]
        environment = {"TOTALSEG_WEIGHTS_PATH": str(root), "TOTALSEG_HOME_DIR": str(folder / "home")}
    measured = nnunet_measure.run(command, options.threads, environment)
    if measured.code != 0:
        sys.exit(f"bench_nnunet.py: the rival ended with {measured.code}:\n{measured.stdout[-2000:]}{measured.stderr[-4000:]}")
    return measured, out


def differing(ours, theirs):
    """Voxels whose labels differ, of how many."""
    a, b = (np.asarray(nibabel.as_closest_canonical(nibabel.load(p)).dataobj) for p in (ours, theirs))
    if a.shape != b.shape:
        sys.exit(f"bench_nnunet.py: shapes {a.shape} and {b.shape}")
    return int((a != b).sum()), a.size


def tell(name, task, measured):
    """What was measured, as soon as it is."""
    text = f"{task}: {name}: {measured.seconds:.1f} s, {measured.peak_bytes / 1e9:.2f} GB, {nnunet_measure.load()}"
    print(text, file=sys.stderr, flush=True)


def take_turns(options, folder, scan, root, task):
    """Rows of one task: name, median seconds, greatest memory, differing voxels, what the rival says of itself."""
    rivals = {"whole": "nnU-Net's predictor", "heart": "TotalSegmentator"}
    source = root if task == "heart" else next((root / CARDIAC).iterdir())
    imported = nnunet_measure.run([options.gantry, "weights", "import", source, "--arch", "nnunet-v2", "--name", task, "--force",
                                   "--checkpoints", folder / "checkpoints"], options.threads)
    if imported.code != 0:
        sys.exit(f"bench_nnunet.py: the import ended with {imported.code}:\n{imported.stdout}{imported.stderr}")
    found = {}
    reference, said = None, {}
    for at in range(options.rounds):
        if at < options.rivals:
            measured, reference = rival(options, folder, scan, root, task)
            tell(rivals[task], task, measured)
            found.setdefault(rivals[task], []).append((measured, None))
            lines = [line for line in measured.stdout.splitlines() if line.startswith("{")]
            said = json.loads(lines[-1]) if lines else {}
        for precision in options.precision:
            measured, labels = gantry(options, folder, task, precision)
            tell(f"Gantry {precision}", task, measured)
            differs = differing(labels, reference) if reference else None
            found.setdefault(f"Gantry {precision}", []).append((measured, differs))
    rows = []
    for name, runs in found.items():
        rows.append({
            "task": task, "name": name, "rounds": len(runs), "seconds": statistics.median(m.seconds for m, _ in runs),
            "peak_bytes": max(m.peak_bytes for m, _ in runs), "differing": runs[-1][1],
            **(said if name == rivals[task] else {}),
        })
    return rows


def table(rows):
    """Rows as a table; a ratio above 1 means faster than the rival."""
    base = {row["task"]: row["seconds"] for row in rows if not row["name"].startswith("Gantry")}
    print("| task | program | seconds | times as fast | peak memory | voxels that differ |\n|---|---|---|---|---|---|")
    for row in rows:
        ratio = f"{base[row['task']] / row['seconds']:.2f}" if row["task"] in base else ""
        differs = "{} of {}".format(*row["differing"]) if row["differing"] else ""
        print(f"| {row['task']} | {row['name']} | {row['seconds']:.1f} | {ratio} | {row['peak_bytes'] / 1e9:.2f} GB | {differs} |")
    for row in rows:
        if "in_network_s" in row:
            print(f"\n{row['name']}: {row['in_network_s']:.1f} s of it in the network, {row['windows']} windows.")


def main():
    if sys.argv[1:2] == ["--predictor"]:
        model, scan, out, threads = sys.argv[2:]
        return predictor(model, scan, out, int(threads))
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("gantry", type=Path)
    parser.add_argument("ct", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--rivals", type=int, default=1, help="how many of the rounds the rival takes part in")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--precision", nargs="+", default=["f32", "auto"])
    parser.add_argument("--only", nargs="+", choices=["whole", "heart"], default=["whole", "heart"])
    parser.add_argument("--reduced", action="store_true")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    options.gantry = options.gantry.resolve()
    sizes = Sizes(options.reduced)
    folder, scan, root = prepare(options, sizes)
    print(f"{sizes.scan} voxels of {sizes.spacing} mm, {options.threads} threads, {nnunet_measure.load()}", flush=True)
    rows = []
    for task in options.only:
        rows += take_turns(options, folder, scan, root, task)
    table(rows)
    print(f"\n{nnunet_measure.load()}")
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
