#!/usr/bin/env python3
"""Gantry's resampling against scipy's, turn by turn on the same data: seconds, ratio, and whether the results are equal.

    bench_resampling.py PROGRAM [--rounds N] [--threads N] [--scale F] [--only CASE ...]

PROGRAM is gantry-volume's example `resampling_times` (cargo build --example resampling_times -p gantry-volume).
The volumes are those of a chest CT, 512x512x300 at 0.75x0.75x1.0 mm; --scale shrinks every axis. scipy has one thread
(it knows no more) and gets float64, as nnU-Net and TotalSegmentator hand it over; Gantry reads float32, float16 or uint8
and has --threads. Of the logits scipy resamples two of the 19 classes, and the time is scaled; argmax is not counted. On a machine that does other things too,
the processor's seconds (of all threads) say more than the elapsed ones.
Exit 1 if a result differs in any bit.
"""

import argparse
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

import numpy as np
from scipy import ndimage

CLASSES = 19


def resize(volume, size, order, clip=False):
    """nnU-Net's: grids whose faces coincide."""
    factors = np.divide(size, volume.shape)
    out = ndimage.zoom(volume.astype(np.float64), factors, order=order, mode="nearest", grid_mode=True)
    return np.clip(out, volume.min(), volume.max()) if clip else out


def zoom(volume, size, order):
    """TotalSegmentator's: the array is x, y, z; grids whose corner centres coincide."""
    array = volume.T.astype(np.float64) if order else volume.T
    factors = np.divide(size[::-1], array.shape)
    return ndimage.zoom(array, factors, order=order, mode="nearest").T


def volume(size, kind):
    """Smooth shapes with some noise, like tissue."""
    z, y, x = [np.linspace(-1, 1, n, dtype=np.float32) for n in size]
    body = np.sqrt(y[:, None] ** 2 * 1.6 + x[None, :] ** 2)[None] + 0.1 * np.sin(7 * z)[:, None, None]
    if kind == "labels":
        return (np.floor(np.abs(body * 23)) % 120).astype(np.uint8)
    image = np.where(body < 0.8, 40 + 300 * np.sin(9 * body), -1000).astype(np.float32)
    noise = np.random.default_rng(4).standard_normal(1 << 20, dtype=np.float32) * 20
    image += np.resize(noise, image.shape)
    return np.round(image) if kind == "hu" else (image - 100) / 250


def logits(size):
    """Classes of nested shells; near their borders several are close."""
    z, y, x = [np.linspace(-1, 1, n, dtype=np.float32) for n in size]
    body = np.sqrt(y[:, None] ** 2 * 1.6 + x[None, :] ** 2)[None] + 0.1 * np.sin(7 * z)[:, None, None]
    noise = np.resize(np.random.default_rng(4).standard_normal(1 << 20, dtype=np.float32), body.shape)
    out = np.empty((CLASSES, *size), np.float16)
    for c in range(CLASSES):
        out[c] = 3 - 40 * np.abs(body - c / CLASSES) + 0.3 * np.roll(noise, 97 * c)
    return out


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("program", type=pathlib.Path)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--scale", type=float, default=1.0)
    parser.add_argument("--only", nargs="*")
    arguments = parser.parse_args()

    def scaled(*size):
        return tuple(max(1, round(n * arguments.scale)) for n in size)

    full, model, low = scaled(300, 512, 512), scaled(200, 256, 256), scaled(100, 128, 128)
    down = lambda order: lambda v: zoom(v, model, order).astype(np.int32)
    # name, case of the program, input, new size, scipy's side, type of the result, its share of the work
    steps = [
        ("zoom order 1 to 1.5 mm", "zoom1", lambda: volume(full, "hu"), model, down(1), np.int32, 1),
        ("zoom order 3 to 1.5 mm", "zoom3", lambda: volume(full, "hu"), model, down(3), np.int32, 1),
        ("labels back from 1.5 mm", "labels", lambda: volume(model, "labels"), full,
         lambda v: zoom(v, full, 0), np.uint8, 1),
        ("labels back from 3 mm", "labels", lambda: volume(low, "labels"), full,
         lambda v: zoom(v, full, 0), np.uint8, 1),
        ("nnU-Net image order 3 down", "image3", lambda: volume(full, ""), model,
         lambda v: resize(v, model, 3, clip=True).astype(np.float32), np.float32, 1),
        ("nnU-Net image order 3 up", "image3", lambda: volume(model, ""), full,
         lambda v: resize(v, full, 3, clip=True).astype(np.float32), np.float32, 1),
        ("logits order 1 up, one class", "logits", lambda: logits(model)[9], full,
         lambda v: resize(v, full, 1).astype(np.float16), np.float16, 1),
        ("19 classes to labels, exact", "exact", lambda: logits(model), full,
         lambda v: [resize(c, full, 1).astype(np.float16) for c in v[9:11]], np.uint8, CLASSES / 2),
        ("19 classes to labels, fast", "fast", lambda: logits(model), full,
         lambda v: [resize(c, full, 1).astype(np.float16) for c in v[9:11]], np.uint8, CLASSES / 2),
    ]
    wrong, labels = [], {}
    print(f"{'step':32} {'scipy s':>8} {'gantry s':>8} {'ratio':>6} {'scipy':>8} {'gantry':>8} {'ratio':>6} {'MiB':>6}  result")
    print(f"{'':32} {'elapsed':>24} {'processor seconds':>24}")
    with tempfile.TemporaryDirectory() as folder:
        source, result = pathlib.Path(folder) / "in", pathlib.Path(folder) / "out"
        for name, case, make, size, theirs, dtype, share in steps:
            if arguments.only and case not in arguments.only:
                continue
            given = make()
            given.tofile(source)
            shape = given.shape[-3:]
            times, work = ([], []), ([], [])
            for _ in range(arguments.rounds):
                start = time.perf_counter(), time.process_time()
                expected = theirs(given)
                times[0].append((time.perf_counter() - start[0]) * share)
                work[0].append((time.process_time() - start[1]) * share)
                command = [arguments.program, case, source, result, arguments.threads, 1, *shape, *size]
                run = subprocess.run([str(c) for c in command], check=True, capture_output=True, text=True)
                seconds, processor, peak = run.stdout.split()
                times[1].append(float(seconds))
                work[1].append(float(processor))
            ours = np.fromfile(result, dtype).reshape(size)
            if dtype == np.uint8 and case != "labels":
                labels[case] = ours
                same = len(labels) < 2 or np.array_equal(labels["exact"], labels["fast"])
                found = "-" if len(labels) < 2 else "equal to exact" if same else "DIFFERS from exact"
            else:
                bits = f"u{ours.itemsize}"
                same = np.array_equal(ours.view(bits), np.ascontiguousarray(expected).view(bits))
                found = "same bits" if same else f"DIFFERS in {np.count_nonzero(ours != expected)}"
            wall, cpu = ([statistics.median(t) for t in pair] for pair in (times, work))
            print(f"{name:32} {wall[0]:8.2f} {wall[1]:8.2f} {wall[0] / wall[1]:6.1f} "
                  f"{cpu[0]:8.2f} {cpu[1]:8.2f} {cpu[0] / cpu[1]:6.1f} {float(peak):6.0f}  {found}", flush=True)
            if not same:
                wrong.append(name)
    sys.exit(f"differ: {', '.join(wrong)}" if wrong else 0)


if __name__ == "__main__":
    main()
