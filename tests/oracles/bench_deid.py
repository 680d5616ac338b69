#!/usr/bin/env python3
"""Time `gantry deid` on one CT series beside three other tools, in alternating rounds.

    bench_deid.py GANTRY SERIES_DIR SCRATCH_DIR [ROUNDS] [-- MORE ARGUMENTS OF GANTRY]

GANTRY is the program, or `-` to measure only the others. SERIES_DIR is a CT series; 320 slices of 512 x 512 x 16 bit are
made of it (slices repeated, pixels enlarged without interpolation, new UIDs and positions). The others, which this
interpreter's environment or the path must offer: `dcmanon` 0.3.1 (a library: one loop, and as many threads and processes
as cores where that helps it), `gdcmanon` 3.0.21 (with a certificate, made by `openssl`), `dicom-anonymizer` 2.1. Each run
must leave one file a slice. Rates are given with start-up and without (the time of a series of one slice taken off), and
until all is on disk, which only Gantry waits for by itself.
Needs pydicom and numpy.
"""

import os
import shutil
import statistics
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pydicom

SLICES, SIDE = 320, 512
DCMANON = """
import sys, pathlib, dcmanon
from concurrent.futures import ThreadPoolExecutor, ProcessPoolExecutor
source, out, how, many = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2]), sys.argv[3], int(sys.argv[4])
anonymizer = dcmanon.Anonymizer()
def one(name):
    (out / name).write_bytes(anonymizer.anonymize(str(source / name)))
names = sorted(p.name for p in source.iterdir())
out.mkdir()
if how == "loop":
    for name in names:
        one(name)
elif how == "threads":
    with ThreadPoolExecutor(many) as pool:
        list(pool.map(one, names))
else:
    import multiprocessing
    with multiprocessing.get_context("fork").Pool(many) as pool:
        pool.map(one, names, 16)
"""


def make_series(source, out, count):
    """A series of `count` slices, 1 mm apart, of the slices of `source`."""
    out.mkdir(parents=True)
    slices = [pydicom.dcmread(p) for p in sorted(source.iterdir())]
    study, series, frame = ("2.25." + str(7 * 10**30 + n) for n in range(3))
    for n in range(count):
        ds = pydicom.dcmread(sorted(source.iterdir())[n % len(slices)])
        pixels = ds.pixel_array
        factor = -(-SIDE // min(pixels.shape))
        large = pixels.repeat(factor, axis=0).repeat(factor, axis=1)[:SIDE, :SIDE]
        ds.PixelData = np.ascontiguousarray(large).tobytes()
        ds.Rows = ds.Columns = SIDE
        ds.PixelSpacing = [float(v) / factor for v in ds.PixelSpacing]
        ds.ImagePositionPatient = [*map(float, slices[0].ImagePositionPatient[:2]), float(n)]
        ds.SliceThickness, ds.InstanceNumber = 1, n + 1
        ds.StudyInstanceUID, ds.SeriesInstanceUID, ds.FrameOfReferenceUID = study, series, frame
        ds.SOPInstanceUID = ds.file_meta.MediaStorageSOPInstanceUID = f"{series}.{n + 1}"
        ds.save_as(out / f"IM{n + 1:04}")


def command_of(name, gantry, more, scratch):
    """What runs `name` over a folder into another that does not exist yet."""
    cores = len(os.sched_getaffinity(0))
    if name == "gantry":
        key = scratch / "site.key"
        if not key.exists():
            subprocess.run([gantry, "key", "new", key], check=True, stdout=subprocess.DEVNULL)
        return lambda source, out: [gantry, "deid", "-i", source, "-o", out, "--key", key, *more]
    if name.startswith("dcmanon"):
        how = name.partition(" ")[2] or "loop"
        return lambda source, out: [sys.executable, "-c", DCMANON, source, out, how, str(cores)]
    if name == "gdcmanon":
        certificate = scratch / "certificate.pem"
        if not certificate.exists():
            subprocess.run(["openssl", "req", "-x509", "-nodes", "-newkey", "rsa:2048", "-subj", "/CN=bench", "-days", "9",
                            "-keyout", scratch / "private.pem", "-out", certificate], check=True, capture_output=True)
        return lambda source, out: ["gdcmanon", "-e", "-c", certificate, "-r", "-i", source, "-o", out]
    beside = Path(sys.executable).parent / "dicom-anonymizer"
    return lambda source, out: [beside if beside.exists() else "dicom-anonymizer", source, out]


def measure(name, command, source, scratch):
    """Seconds of one run until the program ends and until all is on disk, and processor seconds; a file for every input is
    demanded."""
    out = scratch / "out"
    shutil.rmtree(out, ignore_errors=True)
    if name in ("gdcmanon", "dicom-anonymizer"):
        out.mkdir()
    os.sync()
    # Rust programs take traces for errors that they then handle, where these surroundings ask for them.
    surroundings = {name: value for name, value in os.environ.items() if name != "RUST_BACKTRACE"}
    before, start = os.times(), time.perf_counter()
    done = subprocess.run([str(a) for a in command(source, out)], capture_output=True, text=True, errors="replace", env=surroundings)
    seconds, after = time.perf_counter() - start, os.times()
    subprocess.run(["sync", "-f", out], check=True)
    on_disk = time.perf_counter() - start
    expected = sum(1 for _ in source.iterdir())
    files = [p for p in out.rglob("*") if p.is_file() and is_dicom(p)]
    if done.returncode != 0 or len(files) != expected:
        sys.exit(f"{name}: exit {done.returncode}, {len(files)} of {expected} files\n{done.stdout[-1500:]}{done.stderr[-3000:]}")
    shutil.rmtree(out)
    return seconds, on_disk, after.children_user + after.children_system - before.children_user - before.children_system


def is_dicom(path):
    with open(path, "rb") as file:
        return file.read(132)[128:] == b"DICM"


def main():
    arguments, more = sys.argv[1:], []
    if "--" in arguments:
        at = arguments.index("--")
        arguments, more = arguments[:at], arguments[at + 1:]
    gantry, source, scratch = arguments[0], Path(arguments[1]), Path(arguments[2])
    rounds = int(arguments[3]) if len(arguments) > 3 else 3
    scratch.mkdir(parents=True, exist_ok=True)
    series, single = scratch / "series", scratch / "single"
    for folder, count in ((series, SLICES), (single, 1)):
        if not folder.exists():
            make_series(source, folder, count)
    megabytes = sum(p.stat().st_size for p in series.iterdir()) / 1e6
    names = ["dcmanon loop", "dcmanon threads", "dcmanon processes", "gdcmanon", "dicom-anonymizer"]
    names = names if gantry == "-" else ["gantry", *names]
    commands = {name: command_of(name, gantry, more, scratch) for name in names}
    found = {name: [] for name in names}
    for at in range(rounds):
        for name in names:
            started, _, _ = measure(name, commands[name], single, scratch)
            seconds, on_disk, processor = measure(name, commands[name], series, scratch)
            found[name].append((seconds, on_disk, started, processor))
            print(f"round {at + 1}: {name}: {seconds:.2f} s, on disk {on_disk:.2f} s, one slice {started:.2f} s, "
                  f"processor {processor:.2f} s", file=sys.stderr, flush=True)
    print(f"{SLICES} slices, {megabytes:.0f} MB, median of {rounds} alternating rounds, {len(os.sched_getaffinity(0))} cores")
    rates = {}
    print("| tool | seconds | files/s | MB/s | on disk, s | files/s on disk | one slice, s | files/s without start-up | processor s |")
    print("|---|---|---|---|---|---|---|---|---|")
    for name, runs in found.items():
        seconds, on_disk, started, processor = (statistics.median(column) for column in zip(*runs))
        rates[name] = SLICES / seconds, SLICES / on_disk, (SLICES - 1) / max(seconds - started, 1e-3)
        print(f"| {name} | {seconds:.2f} | {rates[name][0]:.0f} | {megabytes / seconds:.0f} | {on_disk:.2f} | {rates[name][1]:.0f} | "
              f"{started:.2f} | {rates[name][2]:.0f} | {processor:.2f} |")
    for name in names[1:] if "gantry" in rates else []:
        ratios = [ours / theirs for ours, theirs in zip(rates["gantry"], rates[name])]
        print("gantry / {}: {:.2f} with start-up, {:.2f} until all is on disk, {:.2f} without start-up".format(name, *ratios))


if __name__ == "__main__":
    main()
