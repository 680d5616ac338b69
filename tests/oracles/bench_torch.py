#!/usr/bin/env python3
"""PyTorch's side of the inference benchmarks: a server on stdin and stdout, so that a benchmark can alternate with it.

    bench_torch.py [--threads N]

The first line it writes says what runs: {"torch", "capability", "threads"}. Then one line of JSON in, one out:

    {"case": "generator", "size": [512, 512], "channels": 3, "blocks": 9, "cbam": true}
    {"case": "conv2d", "size": [128, 128], "channels": [256, 256], "kernel": 3, "batch": 1}
    {"case": "conv3d", "size": [32, 64, 64], "channels": [32, 32], "kernel": 3, "batch": 1}
    {"case": "unet", "size": [128, 128, 128], "channels": 1, "classes": 19, "features": [32, 64, 128, 256, 320, 320]}

Sizes above are the defaults. Further fields of every request:

    dtype           "fp32" or "bf16"                                  fp32
    memory_format   "contiguous" or "channels_last"                   contiguous
    threads         of this and all later requests                    as started
    rounds          how often it is timed                             1
    warm            how often it runs untimed first, at least once    1
    weights         a .safetensors file with the tensors' names       drawn at random, the same each time
    input, output   .npy files (float32) to read and to write         drawn at random; not written

The answer is {"seconds": [...], "flops": 2 x multiplications of the convolutions}, or {"error": text}. A model stays built
and warm for later requests that ask for the same one. Conversion of weights and input to dtype and memory format is not
timed. Instruction sets are restricted when the server is started, through ONEDNN_MAX_CPU_ISA and ATEN_CPU_CAPABILITY
(AVX2: "AVX2" and "avx2"; AVX-512 without matrix units: "AVX512_CORE_BF16" and "avx512").
"""

import argparse
import json
import struct
import sys
import time

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F


class Cbam(nn.Module):
    """Attention over channels, then over pixels."""

    class Channel(nn.Module):
        def __init__(self, width, squeezed):
            super().__init__()
            self.fc = nn.Sequential(
                nn.Conv2d(width, squeezed, 1, bias=False), nn.ReLU(), nn.Conv2d(squeezed, width, 1, bias=False)
            )

        def forward(self, x):
            return torch.sigmoid(self.fc(F.adaptive_avg_pool2d(x, 1)) + self.fc(F.adaptive_max_pool2d(x, 1)))

    class Spatial(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(2, 1, 7, padding=3, bias=False)

        def forward(self, x):
            return torch.sigmoid(self.conv(torch.cat([x.mean(1, keepdim=True), x.amax(1, keepdim=True)], 1)))

    def __init__(self, width):
        super().__init__()
        self.channel_attention = Cbam.Channel(width, width // 16)
        self.spatial_attention = Cbam.Spatial()

    def forward(self, x):
        x = x * self.channel_attention(x)
        return x * self.spatial_attention(x)


class Residual(nn.Module):
    """Two mirrored convolutions with attention, added to the input."""

    def __init__(self, width, cbam):
        super().__init__()
        self.block = nn.Sequential(
            nn.ReflectionPad2d(1), nn.Conv2d(width, width, 3), nn.InstanceNorm2d(width), nn.ReLU(),
            nn.ReflectionPad2d(1), nn.Conv2d(width, width, 3), nn.InstanceNorm2d(width),
        )
        self.cbam = Cbam(width) if cbam else nn.Identity()

    def forward(self, x):
        return x + self.cbam(self.block(x))


class Generator(nn.Module):
    """The generator of DuCoSy-GAN with the layer numbers of its published weights; width 64."""

    def __init__(self, channels, blocks, cbam):
        super().__init__()

        def norm(width):
            return [nn.InstanceNorm2d(width), nn.ReLU()]

        layers = [nn.ReflectionPad2d(3), nn.Conv2d(channels, 64, 7), *norm(64)]
        for width in [128, 256]:
            layers += [nn.Conv2d(width // 2, width, 3, stride=2, padding=1), *norm(width)]
        layers += [Residual(256, cbam) for _ in range(blocks)]
        for width in [128, 64]:
            layers += [nn.Upsample(scale_factor=2), nn.Conv2d(width * 2, width, 3, padding=1), *norm(width)]
        layers += [nn.ReflectionPad2d(3), nn.Conv2d(64, 1, 7), nn.Tanh()]
        self.model = nn.Sequential(*layers)

    def forward(self, x):
        return self.model(x)


class UNet(nn.Module):
    """A plain U-Net in three dimensions as nnU-Net plans it: two convolutions a stage, instance norm, leaky ReLU."""

    def __init__(self, channels, classes, features):
        super().__init__()

        def stage(first, width, stride):
            layers = []
            for at in range(2):
                layers += [
                    nn.Conv3d(first if at == 0 else width, width, 3, stride if at == 0 else 1, 1),
                    nn.InstanceNorm3d(width, affine=True), nn.LeakyReLU(0.01, inplace=True),
                ]
            return nn.Sequential(*layers)

        before = [channels, *features[:-1]]
        self.down = nn.ModuleList(
            stage(first, width, 2 if at else 1) for at, (first, width) in enumerate(zip(before, features))
        )
        steps = list(zip(features[:0:-1], features[-2::-1]))
        self.enlarge = nn.ModuleList(nn.ConvTranspose3d(low, high, 2, 2) for low, high in steps)
        self.up = nn.ModuleList(stage(2 * high, high, 1) for _, high in steps)
        self.head = nn.Conv3d(features[0], classes, 1)

    def forward(self, x):
        skips = []
        for stage in self.down:
            x = stage(x)
            skips.append(x)
        for enlarge, stage, skip in zip(self.enlarge, self.up, skips[-2::-1]):
            x = stage(torch.cat([enlarge(x), skip], 1))
        return self.head(x)


def safetensors(path):
    """The float32 tensors of a file."""
    with open(path, "rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        header, data = json.loads(file.read(length)), file.read()
    tensors = {}
    for name, entry in header.items():
        if name == "__metadata__":
            continue
        if entry["dtype"] != "F32":
            raise ValueError(f"{name}: F32 expected, found {entry['dtype']}")
        start, end = entry["data_offsets"]
        tensors[name] = torch.from_numpy(np.frombuffer(data[start:end], "<f4").reshape(entry["shape"]).copy())
    return tensors


def convolution(request, dimensions, size, channels):
    """One convolution with a border of zeros, and the shape of its input."""
    size, channels = request.get("size", size), request.get("channels", channels)
    kernel = request.get("kernel", 3)
    layer = {2: nn.Conv2d, 3: nn.Conv3d}[dimensions](*channels, kernel, padding=kernel // 2)
    return layer, [request.get("batch", 1), channels[0], *size]


def network(request):
    """The network of a request, and the shape of its input."""
    case = request["case"]
    if case == "conv2d":
        return convolution(request, 2, [128, 128], [256, 256])
    if case == "conv3d":
        return convolution(request, 3, [32, 64, 64], [32, 32])
    if case == "generator":
        channels = request.get("channels", 3)
        made = Generator(channels, request.get("blocks", 9), request.get("cbam", True))
        return made, [1, channels, *request.get("size", [512, 512])]
    if case == "unet":
        channels = request.get("channels", 1)
        features = request.get("features", [32, 64, 128, 256, 320, 320])
        made = UNet(channels, request.get("classes", 19), features)
        return made, [1, channels, *request.get("size", [128, 128, 128])]
    raise ValueError(f"no case {case!r}")


DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}
LAST = {4: torch.channels_last, 5: torch.channels_last_3d}


class Prepared:
    """A network in its dtype and memory format with an input, warmed up."""

    def __init__(self, request):
        torch.manual_seed(1)
        self.network, shape = network(request)
        if "weights" in request:
            self.network.load_state_dict(safetensors(request["weights"]))
        if "input" in request:
            self.input = torch.from_numpy(np.load(request["input"]))
            if list(self.input.shape) != shape:
                raise ValueError(f"input: {shape} expected, found {list(self.input.shape)}")
        else:
            self.input = torch.rand(shape) * 2 - 1
        form = {"contiguous": torch.contiguous_format, "channels_last": LAST[len(shape)]}
        form = form[request.get("memory_format", "contiguous")]
        dtype = DTYPES[request.get("dtype", "fp32")]
        # A transposed convolution has no channels-last weights of its own; torch takes these.
        self.network = self.network.eval().to(dtype).to(memory_format=form)
        self.input = self.input.to(dtype).contiguous(memory_format=form)
        # Counting warms up too.
        self.flops = self.count()
        for _ in range(1, request.get("warm", 1)):
            self.network(self.input)

    def count(self):
        """Two operations for each multiplication of the convolutions."""
        total, hooks = 0, []

        def add(layer, inputs, output):
            nonlocal total
            taps = int(np.prod(layer.kernel_size))
            # Of a transposed convolution each input voxel is multiplied; of others each output voxel is a sum.
            places = inputs[0] if layer.transposed else output
            other = layer.out_channels if layer.transposed else layer.in_channels
            total += 2 * places.numel() * other * taps

        for layer in self.network.modules():
            if isinstance(layer, (nn.Conv2d, nn.Conv3d, nn.ConvTranspose3d)):
                hooks.append(layer.register_forward_hook(add))
        self.network(self.input)
        for hook in hooks:
            hook.remove()
        return total

    def seconds(self):
        started = time.perf_counter()
        self.output = self.network(self.input)
        return time.perf_counter() - started


class Server:
    """Answers requests; the networks asked for stay built."""

    # A U-Net holds a gigabyte: no more of them than alternate.
    KEPT = 6

    def __init__(self):
        self.prepared = {}

    def answer(self, request):
        if "threads" in request:
            torch.set_num_threads(request["threads"])
        ignored = {"rounds", "output", "threads", "warm"}
        key = json.dumps({k: v for k, v in request.items() if k not in ignored}, sort_keys=True)
        prepared = self.prepared.pop(key, None) or Prepared(request)
        self.prepared[key] = prepared
        while len(self.prepared) > self.KEPT:
            del self.prepared[next(iter(self.prepared))]
        seconds = [prepared.seconds() for _ in range(request.get("rounds", 1))]
        if "output" in request:
            np.save(request["output"], prepared.output.float().contiguous().numpy())
        return {"seconds": seconds, "flops": prepared.flops}


def say(line):
    print(json.dumps(line), flush=True)


def main():
    arguments = argparse.ArgumentParser(description="PyTorch's side of the inference benchmarks; see the file's head.")
    arguments.add_argument("--threads", type=int)
    arguments = arguments.parse_args()
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    say({
        "torch": torch.__version__,
        "capability": torch.backends.cpu.get_cpu_capability(),
        "threads": torch.get_num_threads(),
    })
    server = Server()
    with torch.inference_mode():
        for line in sys.stdin:
            try:
                say(server.answer(json.loads(line)))
            except Exception as error:  # one bad request must not end a long benchmark
                say({"error": f"{type(error).__name__}: {error}"})


if __name__ == "__main__":
    main()
