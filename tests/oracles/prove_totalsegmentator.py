#!/usr/bin/env python3
"""Proof on a machine that has the real thing: an installed TotalSegmentator and Gantry on one scan, class by class.

    prove_totalsegmentator.py SCAN [--gantry PROGRAM] [--weights DIR] [--mode total|fast|fastest] [--roi NAME ...]
                              [--threads N] [--precision f32] [--least 0.999] [--keep DIR] [--json FILE]
                              [--random-models DIR]

SCAN is a folder with one DICOM series of CT, or a NIfTI file. --weights is TotalSegmentator's weights folder [default:
TOTALSEG_WEIGHTS_PATH, else ~/.totalsegmentator/nnunet/results]. --mode: `total`, five models of 1.5 mm; `fast`, the one of
3 mm [default]; `fastest`, that of 6 mm. --roi names the classes that are wanted (such as heart aorta), with `total`: both
programs then look roughly first and run only the models that know these classes.

Imports the weights with `gantry weights import`, runs TotalSegmentator (its own Python interface, on the CPU, where it
computes in single precision) and Gantry, one after the other, each in processes of its own, and prints for every class
present in either result how many voxels each found and their Dice coefficient; then time and memory of both. Nothing is
downloaded and no usage statistics are sent: both are switched off inside TotalSegmentator for this run, and weights that are
missing are named instead. The scan is only read. With --keep the label files of both stay in DIR.

Exit status: 0, every class present has a Dice of at least --least; 1, one has not, or no class was found at all; 2, wrong
usage, or a program or weights missing.

--random-models DIR is for trying the kit where there are no real weights: DIR is used in their place, which the output says.

Needs this interpreter to have TotalSegmentator (2.18 was used) and nibabel; Linux; memory for TotalSegmentator.
"""

import argparse
import json
import os
import shutil
import sys
import tempfile
from pathlib import Path

import nnunet_measure
from nnunet_pipeline import pipeline

# Models of the task `total`: number -> labels from and to, inclusive.
PARTS = {291: (1, 24), 292: (25, 50), 293: (51, 68), 294: (69, 91), 295: (92, 117)}
WHOLE = {"fast": 297, "fastest": 298}
ROUGH = 298


def fail(why):
    print(f"prove_totalsegmentator.py: {why}", file=sys.stderr)
    sys.exit(2)


def run_totalsegmentator(scan, out, settings):
    """What the child process does: TotalSegmentator as it is, without its ways to the network; prints its class table."""
    import requests

    def closed(*_, **__):
        raise RuntimeError("prove_totalsegmentator.py lets nothing reach the network")

    requests.get = requests.post = requests.Session.request = closed
    from totalsegmentator import python_api
    from totalsegmentator.config import get_version
    from totalsegmentator.map_to_binary import class_map

    Path(os.environ["TOTALSEG_HOME_DIR"]).mkdir(parents=True, exist_ok=True)
    python_api.download_pretrained_weights = lambda task: None
    python_api.send_usage_stats = lambda *_: None
    python_api.totalsegmentator(scan, out, ml=True, device="cpu", quiet=True, **json.loads(settings))
    print(json.dumps({"version": str(get_version()), "classes": class_map["total"]}))


def class_table(python):
    """Label -> name of the task `total`, and the version; without importing torch here."""
    text = "import json; from totalsegmentator.map_to_binary import class_map; from importlib.metadata import version; " \
        "print(json.dumps([version('TotalSegmentator'), class_map['total']]))"
    asked = nnunet_measure.run([python, "-W", "ignore", "-c", text], 1)
    if asked.code != 0:
        fail(f"{python} has no TotalSegmentator that can be imported:\n{asked.stderr[-1500:]}")
    version, classes = json.loads(asked.stdout.splitlines()[-1])
    return version, {int(label): name for label, name in classes.items()}


def wanted_models(options, classes):
    """The numbers of the models that this proof needs."""
    if options.mode != "total":
        return [WHOLE[options.mode]]
    if not options.roi:
        return list(PARTS)
    labels = {name: label for label, name in classes.items()}
    unknown = [name for name in options.roi if name not in labels]
    if unknown:
        fail(f"TotalSegmentator's task total has no class {', '.join(unknown)}")
    chosen = [labels[name] for name in options.roi]
    return [n for n, (low, high) in PARTS.items() if any(low <= label <= high for label in chosen)] + [ROUGH]


def gantry_run(options, scratch, models):
    """Imports and runs: what was measured of the run, and the label file."""
    checkpoints = scratch / "checkpoints"
    imported = nnunet_measure.run(
        [options.gantry, "weights", "import", options.weights, "--arch", "nnunet-v2", "--name", "totalsegmentator",
         "--models", ",".join(map(str, models)), "--checkpoints", checkpoints], options.threads)
    if imported.code != 0:
        fail(f"gantry could not import the weights (exit {imported.code}):\n{imported.stdout}{imported.stderr}")
    source = "dicom-read" if options.scan.is_dir() else "nifti-read"
    params = f'checkpoint = "totalsegmentator", precision = "{options.precision}"'
    if options.roi:
        params += f", structures = {json.dumps(options.roi)}"
    proof = pipeline(scratch / "proof.toml", source, params)
    given = options.scan
    if not given.is_dir():
        given = scratch / "in"
        given.mkdir()
        # A copy, since a neighbour of the file might be taken for another case.
        shutil.copy(options.scan, given / options.scan.name)
    out = scratch / "gantry"
    measured = nnunet_measure.run(
        [options.gantry, "run", proof, "-i", given, "-o", out, "--checkpoints", checkpoints], options.threads)
    if measured.code != 0:
        fail(f"gantry run ended with {measured.code}:\n{measured.stdout[-2000:]}{measured.stderr[-4000:]}")
    made = list(out.rglob("labels.nii.gz"))
    if len(made) != 1:
        fail(f"one label file expected of gantry, found {len(made)}")
    return measured, made[0]


def their_run(options, scratch):
    """Runs TotalSegmentator: what was measured, and the label file."""
    out = scratch / "theirs.nii.gz"
    settings = {"fast": options.mode == "fast", "fastest": options.mode == "fastest", "roi_subset": options.roi or None}
    environment = {"TOTALSEG_WEIGHTS_PATH": str(options.weights), "TOTALSEG_HOME_DIR": str(scratch / "home")}
    measured = nnunet_measure.run(
        [sys.executable, "-W", "ignore", __file__, "--totalsegmentator", options.scan, out, json.dumps(settings)],
        options.threads, environment)
    if measured.code != 0 or not out.exists():
        fail(f"TotalSegmentator ended with {measured.code}:\n{measured.stdout[-2000:]}{measured.stderr[-4000:]}")
    return measured, out


def compare(ours, theirs, classes):
    """Rows (label, name, voxels of ours, of theirs, Dice) of every class present in either."""
    import nibabel
    import numpy as np

    ours, theirs = (nibabel.as_closest_canonical(nibabel.load(path)) for path in (ours, theirs))
    if ours.shape != theirs.shape or np.abs(ours.affine - theirs.affine).max() > 1e-2:
        print(f"FAILED the results lie on different grids: {ours.shape} and {theirs.shape}")
        sys.exit(1)
    a, b = (np.asarray(image.dataobj).astype(np.int64) for image in (ours, theirs))
    rows = []
    for label in np.union1d(a, b).tolist():
        if label == 0:
            continue
        mine, other = a == label, b == label
        dice = 2 * float((mine & other).sum()) / float(mine.sum() + other.sum())
        rows.append((label, classes.get(label, "unknown"), int(mine.sum()), int(other.sum()), dice))
    return rows, int((a != b).sum()), int(a.size)


def settings():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("scan", type=Path)
    parser.add_argument("--gantry", type=Path, help="the program [default: on the path]")
    parser.add_argument("--weights", type=Path)
    parser.add_argument("--mode", choices=["total", "fast", "fastest"], default="fast")
    parser.add_argument("--roi", nargs="+", default=[])
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--least", type=float, default=0.999)
    parser.add_argument("--keep", type=Path)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--random-models", type=Path)
    options = parser.parse_args()
    if options.roi and options.mode != "total":
        fail("--roi goes with --mode total")
    if options.random_models and options.weights:
        fail("--random-models takes the place of --weights")
    if not options.scan.exists():
        fail("the scan does not exist")
    found = options.gantry or shutil.which("gantry")
    if not found or not Path(found).is_file():
        fail("no program gantry: name it with --gantry")
    options.gantry = Path(found).resolve()
    installed = os.environ.get("TOTALSEG_WEIGHTS_PATH") or Path.home() / ".totalsegmentator" / "nnunet" / "results"
    options.weights = Path(options.random_models or options.weights or installed).resolve()
    if not options.weights.is_dir():
        fail("the weights folder does not exist; TotalSegmentator's totalseg_download_weights fills it, or name it with --weights")
    options.scan = options.scan.resolve()
    return options


def main():
    if sys.argv[1:2] == ["--totalsegmentator"]:
        return run_totalsegmentator(*sys.argv[2:])
    options = settings()
    version, classes = class_table(sys.executable)
    models = wanted_models(options, classes)
    missing = [n for n in models if not list(options.weights.glob(f"Dataset{n}_*"))]
    if missing:
        fail(f"the weights folder lacks model {', '.join(map(str, missing))}")
    if options.random_models:
        print("RANDOM MODELS: this tries the kit and says nothing of the published weights.")
    print(f"TotalSegmentator {version}, mode {options.mode}{' for ' + ', '.join(options.roi) if options.roi else ''}; "
          f"models {', '.join(map(str, models))}; {options.threads} threads; {nnunet_measure.load()}", flush=True)
    with tempfile.TemporaryDirectory() as scratch:
        scratch = Path(scratch)
        measured_ours, ours = gantry_run(options, scratch, models)
        measured_theirs, theirs = their_run(options, scratch)
        rows, differ, voxels = compare(ours, theirs, classes)
        if options.keep:
            options.keep.mkdir(parents=True, exist_ok=True)
            shutil.copy(ours, options.keep / "gantry.nii.gz")
            shutil.copy(theirs, options.keep / "totalsegmentator.nii.gz")
    print(f"{'label':>5} {'class':34} {'Gantry':>11} {'theirs':>11} {'Dice':>9}")
    for label, name, mine, other, dice in rows:
        print(f"{label:5} {name:34} {mine:11} {other:11} {dice:9.6f}{'' if dice >= options.least else '  BELOW'}")
    print(f"{differ} of {voxels} voxels differ")
    for name, measured in [("Gantry", measured_ours), ("TotalSegmentator", measured_theirs)]:
        print(f"{name:17} {measured.seconds:8.1f} s  {measured.peak_bytes / 1e9:6.2f} GB")
    below = [name for _, name, _, _, dice in rows if dice < options.least]
    held = bool(rows) and not below
    if options.json:
        options.json.write_text(json.dumps({
            "totalsegmentator": version, "mode": options.mode, "roi": options.roi, "models": models,
            "random_models": bool(options.random_models), "threads": options.threads, "differ": differ, "voxels": voxels,
            "classes": [dict(zip(("label", "name", "gantry", "totalsegmentator", "dice"), row)) for row in rows],
            "gantry": {"seconds": measured_ours.seconds, "peak_bytes": measured_ours.peak_bytes},
            "theirs": {"seconds": measured_theirs.seconds, "peak_bytes": measured_theirs.peak_bytes}, "held": held}, indent=1))
    if not rows:
        print("FAILED neither program found any class: nothing is proved")
    elif below:
        print(f"FAILED Dice below {options.least}: {', '.join(below)}")
    else:
        print(f"held: Dice of at least {options.least} for each of {len(rows)} classes")
    return 0 if held else 1


if __name__ == "__main__":
    sys.exit(main())
