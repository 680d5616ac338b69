#!/usr/bin/env python3
"""The generator on one card: Gantry's CUDA library against PyTorch, accuracy and milliseconds a slice, as a table.

    bench_cuda.py PROGRAM [--size 512] [--channels 3] [--rounds 30] [--library-path DIR ...] [--output FILE]

PROGRAM is target/cuda/release/examples/cuda_bench, made by `plugin-api/neural/cuda/build.sh --bench`. Needs a card, torch
and numpy. A time is from a slice in the host's memory to the result there, the median of the rounds; errors are against
PyTorch in float64 on the CPU, in units of the output's [-1, 1].
"""

import argparse
import copy
import glob
import json
import os
import shlex
import statistics
import struct
import subprocess
import sys
import tempfile
import time

import numpy as np
import torch

from bench_torch import Generator


def write_safetensors(path, tensors):
    header, data = {}, b""
    for name, tensor in tensors.items():
        raw = tensor.detach().cpu().contiguous().numpy().astype("<f4").tobytes()
        header[name] = {"dtype": "F32", "shape": list(tensor.shape), "data_offsets": [len(data), len(data) + len(raw)]}
        data += raw
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text + data)


def timed(run, rounds):
    """Median milliseconds and the last result; the first calls compile and choose algorithms."""
    for _ in range(5):
        result = run()
    times = []
    for _ in range(rounds):
        torch.cuda.synchronize()
        started = time.perf_counter()
        result = run()
        times.append(1e3 * (time.perf_counter() - started))
    return statistics.median(times), result


def of_torch(network, image, rounds):
    """PyTorch's ways: name -> (milliseconds, result)."""
    torch.backends.cudnn.benchmark = True
    rows = {}

    def way(name, dtype, form, compiled):
        model = copy.deepcopy(network).to("cuda", dtype).to(memory_format=form).eval()
        if compiled:
            model = torch.compile(model)

        def run():
            x = image.to("cuda").to(dtype).contiguous(memory_format=form)
            return model(x).float().cpu()

        try:
            rows[name] = timed(run, rounds)
        except Exception as error:  # torch.compile needs a compiler, which a machine may lack
            print(f"{name}: left out: {type(error).__name__}: {error}", file=sys.stderr)

    plain, last = torch.contiguous_format, torch.channels_last
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
    way("PyTorch fp32, no TF32", torch.float32, plain, False)
    way("PyTorch fp32, no TF32, torch.compile", torch.float32, plain, True)
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = True
    way("PyTorch fp32 with TF32", torch.float32, plain, False)
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
    way("PyTorch bf16 channels_last", torch.bfloat16, last, False)
    way("PyTorch bf16 channels_last, torch.compile", torch.bfloat16, last, True)
    return rows


def of_gantry(program, network, image, rounds, library_path):
    """Gantry's ways, by the program."""
    with tempfile.TemporaryDirectory() as folder:
        weights, given = os.path.join(folder, "weights.safetensors"), os.path.join(folder, "input.f32")
        write_safetensors(weights, network.state_dict())
        image.numpy().astype("<f4").tofile(given)
        _, channels, height, width = image.shape
        command = [program, weights, given, channels, height, width, rounds, folder]
        # The run-time libraries of CUDA lie in torch's neighbours, where there is no CUDA of the system.
        beside = glob.glob(os.path.join(os.path.dirname(torch.__file__), "..", "nvidia", "*", "lib"))
        paths = [*library_path, *beside, os.environ.get("LD_LIBRARY_PATH", "")]
        environment = {**os.environ, "LD_LIBRARY_PATH": ":".join(p for p in paths if p), "NVIDIA_TF32_OVERRIDE": "0"}
        done = subprocess.run([str(c) for c in command], env=environment, check=True, stdout=subprocess.PIPE, text=True)
        rows = {}
        for line in map(json.loads, done.stdout.splitlines()):
            out = np.fromfile(os.path.join(folder, line["name"] + ".f32"), "<f4")
            result = torch.from_numpy(out.reshape(1, 1, height, width))
            rows["Gantry " + line["name"]] = (statistics.median(line["milliseconds"]), result)
        return rows


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("program")
    arguments.add_argument("--size", type=int, default=512)
    arguments.add_argument("--channels", type=int, default=3)
    arguments.add_argument("--rounds", type=int, default=30)
    arguments.add_argument("--library-path", action="append", default=[])
    arguments.add_argument("--output")
    arguments = arguments.parse_args()
    if not torch.cuda.is_available():
        sys.exit("bench_cuda.py: PyTorch finds no card here; nothing can be measured")

    torch.manual_seed(1)
    network = Generator(arguments.channels, 9, True).eval()
    image = torch.rand(1, arguments.channels, arguments.size, arguments.size) * 2 - 1
    image[:, 1:] = (image[:, 1:] > 0).float()  # masks
    with torch.inference_mode():
        expected = network.double()(image.double()).float()
        network = network.float()
        rows = of_gantry(arguments.program, network, image, arguments.rounds, arguments.library_path)
        rows.update(of_torch(network, image, arguments.rounds))
    base = rows.get("PyTorch fp32, no TF32", (float("nan"), None))[0]
    lines = [
        f"One {arguments.size} x {arguments.size} slice, {arguments.channels} channels, 9 blocks; "
        f"{torch.cuda.get_device_name()}, torch {torch.__version__}, CUDA {torch.version.cuda}, "
        f"cuDNN {torch.backends.cudnn.version()}; median of {arguments.rounds}.",
        "",
        "| | ms a slice | times PyTorch fp32 | mean error | 99.9 % | max |",
        "|---|---|---|---|---|---|",
    ]
    for name, (milliseconds, result) in rows.items():
        error = (result - expected).abs().double().flatten()
        high = error.kthvalue(int(0.999 * error.numel())).values
        lines.append(
            f"| {name} | {milliseconds:.2f} | {base / milliseconds:.2f} | {error.mean():.1e} | {high:.1e} | {error.max():.1e} |"
        )
    lines += ["", f"Made with `{shlex.join(['python3', *sys.argv])}`."]
    print("\n".join(lines))
    if arguments.output:
        with open(arguments.output, "w", encoding="utf-8") as file:
            file.write("# The generator on a card\n\n" + "\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
