"""Fits the two toy checkpoints on phantom pairs and writes them with their cards.

    gantry phantom -o PAIRS --patients 10
    python tests/oracles/fit_toys.py PAIRS checkpoints

A toy is a DuCoSy generator of width 16 (specification: architecture `ducosy-generator`), fitted by plain supervised
regression from the phantom's series without contrast medium to the one with it, one network for each HU window. The last
two patients are held out: a toy is written only if, on them, it comes closer to the real contrast series than leaving the
image as it is, inside the structures it is for (soft: heart and vessels; lung: vessels inside the lungs), and if it
leaves the rest of the window about as it is.

Needs torch, numpy, pydicom, safetensors. Deterministic for one version of torch on one thread.
"""

import hashlib
import json
import pathlib
import sys

import numpy as np
import pydicom
import torch
import torch.nn.functional as F
from safetensors.numpy import save_file
from torch import nn

WIDTH, BLOCKS, REDUCTION = 16, 3, 16
HEART_AND_VESSELS = [8, 9, 10, 11, 12, 13, 14, 15, 16]  # label values, see labels.csv beside the pairs
LUNG_VESSELS = [5]
HELD_OUT = 2
SPOILED = 0.06  # of the window: a larger mean error over all replaced voxels is refused
TARGETS = {
    "soft": {"window": (-150.0, 250.0), "labels": HEART_AND_VESSELS, "steps": 900, "weight": 8, "open": False, "summary": "soft tissue"},
    "lung": {"window": (-1000.0, -150.0), "labels": LUNG_VESSELS, "steps": 700, "weight": 300, "open": True, "summary": "lung"},
}


class Cbam(nn.Module):
    """Channel attention, then spatial attention."""

    def __init__(self, channels):
        super().__init__()
        hidden = channels // REDUCTION
        self.channel_attention = nn.Module()
        self.channel_attention.fc = nn.Sequential(
            nn.Conv2d(channels, hidden, 1, bias=False), nn.ReLU(), nn.Conv2d(hidden, channels, 1, bias=False)
        )
        self.spatial_attention = nn.Module()
        self.spatial_attention.conv = nn.Conv2d(2, 1, 7, padding=3, bias=False)

    def forward(self, x):
        mlp = self.channel_attention.fc
        gate = mlp(F.adaptive_avg_pool2d(x, 1)) + mlp(F.adaptive_max_pool2d(x, 1))
        x = x * torch.sigmoid(gate)
        pooled = torch.cat([x.mean(1, keepdim=True), x.amax(1, keepdim=True)], 1)
        return x * torch.sigmoid(self.spatial_attention.conv(pooled))


class Residual(nn.Module):
    """Two convolutions, CBAM, and the input added."""

    def __init__(self, channels):
        super().__init__()
        self.block = nn.Sequential(
            nn.ReflectionPad2d(1), nn.Conv2d(channels, channels, 3), nn.InstanceNorm2d(channels), nn.ReLU(),
            nn.ReflectionPad2d(1), nn.Conv2d(channels, channels, 3), nn.InstanceNorm2d(channels),
        )
        self.cbam = Cbam(channels)

    def forward(self, x):
        return x + self.cbam(self.block(x))


class Generator(nn.Module):
    """The generator of the specification, with a free width and number of blocks."""

    def __init__(self, width=WIDTH, blocks=BLOCKS):
        super().__init__()
        w = width
        layers = [nn.ReflectionPad2d(3), nn.Conv2d(1, w, 7), nn.InstanceNorm2d(w), nn.ReLU()]
        for cin, cout in ((w, 2 * w), (2 * w, 4 * w)):
            layers += [nn.Conv2d(cin, cout, 3, 2, 1), nn.InstanceNorm2d(cout), nn.ReLU()]
        layers += [Residual(4 * w) for _ in range(blocks)]
        for cin, cout in ((4 * w, 2 * w), (2 * w, w)):
            layers += [nn.Upsample(scale_factor=2), nn.Conv2d(cin, cout, 3, 1, 1), nn.InstanceNorm2d(cout), nn.ReLU()]
        layers += [nn.ReflectionPad2d(3), nn.Conv2d(w, 1, 7), nn.Tanh()]
        self.model = nn.Sequential(*layers)

    def forward(self, x):
        return self.model(x)


def series(folder):
    """HU [z, y, x] by position."""
    slices = sorted((pydicom.dcmread(f) for f in folder.glob("*.dcm")), key=lambda d: float(d.ImagePositionPatient[2]))
    return np.stack([d.pixel_array.astype(np.float32) * float(d.RescaleSlope) + float(d.RescaleIntercept) for d in slices])


def labels(path, shape):
    """Ground truth [z, y, x] on the DICOM grid."""
    import nibabel

    image = nibabel.load(path)
    volume = np.asarray(image.dataobj)
    # NIfTI [x, y, z] in RAS; the DICOM grid is LPS with rows towards the back.
    affine = image.affine
    if affine[0, 0] > 0:
        volume = volume[::-1]
    if affine[1, 1] > 0:
        volume = volume[:, ::-1]
    if affine[2, 2] < 0:
        volume = volume[:, :, ::-1]
    volume = volume.transpose(2, 1, 0)
    assert volume.shape == shape, (volume.shape, shape)
    return volume


def normalised(hu, window):
    low, high = window
    return 2 * (np.clip(hu, low, high) - low) / (high - low) - 1


def fit(name, target, patients):
    torch.manual_seed(20260131)
    window = target["window"]
    held, seen = patients[-HELD_OUT:], patients[:-HELD_OUT]
    inputs = torch.tensor(np.concatenate([normalised(p["plain"], window) for p in seen]))[:, None]
    wanted = torch.tensor(np.concatenate([normalised(p["contrast"], window) for p in seen]))[:, None]
    inside = torch.tensor(np.concatenate([np.isin(p["labels"], target["labels"]) for p in seen]))[:, None].float()
    # Only voxels whose own value lies in the window are used later, so the weight falls on those inside the structures.
    emphasis = 1 + target["weight"] * inside * ((inputs > -1) & (inputs < 1) if target["open"] else 1)
    net = Generator()
    optimiser = torch.optim.Adam(net.parameters(), 2e-3, betas=(0.5, 0.999))
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, target["steps"])
    order = torch.Generator().manual_seed(7)
    for step in range(target["steps"]):
        pick = torch.randint(len(inputs), (4,), generator=order)
        loss = (emphasis[pick] * (net(inputs[pick]) - wanted[pick]).abs()).mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
        if step % 100 == 99:
            print(f"{name} step {step + 1}: {loss.item():.4f}", flush=True)
    # What is written is what is judged: half-precision weights.
    net.half().float()
    net.eval()
    low, high = window
    inside_left, inside_made, whole = [], [], []
    with torch.inference_mode():
        for p in held:
            output = net(torch.tensor(normalised(p["plain"], window))[:, None])[:, 0].numpy()
            hu = (output + 1) / 2 * (high - low) + low
            # The integrator's rule: only voxels whose own value lies in the window are replaced.
            replaced = (p["plain"] >= low) & (p["plain"] <= high)
            chain = np.where(replaced, hu, p["plain"])
            mask = np.isin(p["labels"], target["labels"])
            inside_left.append(np.abs(p["plain"] - p["contrast"])[mask])
            inside_made.append(np.abs(chain - p["contrast"])[mask])
            whole.append(np.abs(chain - p["contrast"])[replaced])
    left, made, whole = (float(np.concatenate(v).mean()) for v in (inside_left, inside_made, whole))
    print(f"{name}: mean absolute error inside on held-out patients: as it is {left:.1f} HU, toy {made:.1f} HU")
    print(f"{name}: mean absolute error of every replaced voxel: {whole:.1f} HU")
    if not made < left:
        sys.exit(f"{name}: the toy is no better than leaving the image as it is; nothing is written")
    # Making everything brighter would also come closer inside the vessels.
    if not whole < SPOILED * (high - low):
        sys.exit(f"{name}: the toy spoils what should stay as it is; nothing is written")
    return net, left, made


def write(folder, name, target, net, left, made, patients):
    folder.mkdir(parents=True, exist_ok=True)
    state = {key: value.numpy().astype(np.float16) for key, value in net.state_dict().items()}
    save_file(state, folder / "weights.safetensors")
    digest = hashlib.sha256((folder / "weights.safetensors").read_bytes()).hexdigest()
    low, high = target["window"]
    (folder / "card.toml").write_text(
        f"""card         = 1
name         = "toy-{name}"
architecture = "ducosy-generator"
summary      = "Toy {target['summary']} generator of width 16, fitted on phantoms"
licence      = "MIT OR Apache-2.0"
trained_with = "gantry phantom -o PAIRS --patients {patients} && python tests/oracles/fit_toys.py PAIRS checkpoints; held-out phantoms: {made:.1f} HU mean absolute error inside the structures, {left:.1f} HU left as they are"
toy          = true
nature       = "synthetic"
intended_use = "demonstration and tests only"

[[files]]
path   = "weights.safetensors"
sha256 = "{digest}"

[caps.image]
quantity = "normalized"
window   = [{low}, {high}]
modality = "CT"
[caps.masks]
names    = []
[caps.out]
quantity = "normalized"
[run]
normalisation = "linear"
resize        = []
"""
    )
    print(json.dumps({"checkpoint": str(folder), "bytes": (folder / "weights.safetensors").stat().st_size}))


def main():
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    pairs, out = map(pathlib.Path, sys.argv[1:3])
    patients = []
    for folder in sorted((pairs / "phantom").glob("patient-*")):
        plain, contrast = series(folder / "POST VUE"), series(folder / "POST STD")
        patients.append({"plain": plain, "contrast": contrast, "labels": labels(folder / "labels.nii.gz", plain.shape)})
    if len(patients) <= HELD_OUT:
        sys.exit("too few patients")
    for name in sys.argv[3:] or TARGETS:
        net, left, made = fit(name, TARGETS[name], patients)
        write(out / f"toy-{name}", name, TARGETS[name], net, left, made, len(patients))


if __name__ == "__main__":
    main()
