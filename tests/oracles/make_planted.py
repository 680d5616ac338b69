#!/usr/bin/env python3
"""Write the stress tier and the realistic tier on three bases, each in every encoding that this machine can write.

    make_planted.py PLANT_DIR CT_SLICE OUT_DIR

PLANT_DIR holds plant.py, the stress tier. Bases: CT_SLICE (explicit VR, little endian, uncompressed) and pydicom's CT_small
and MR_small. Encodings: implicit and explicit VR, big endian (pixels byte-swapped), deflated, RLE, JPEG-LS, JPEG 2000.
OUT_DIR gets stress/, realistic/, burned-in/ (the stress tier that says it has text in its pixels), bases/ (the same
encodings without identifiers) and {stress,realistic,burned-in}.key.json. Every file is an instance of its own, of a study of
its own for each base and encoding. Needs pydicom, numpy and for JPEG pyjpegls and pylibjpeg-openjpeg (left out if absent).
"""

import contextlib
import io
import json
import sys
from pathlib import Path

import numpy as np
import pydicom
from pydicom.data import get_testdata_file

import plant_realistic
from canaries import write_key

ENCODINGS = {
    "implicit": pydicom.uid.ImplicitVRLittleEndian, "explicit": pydicom.uid.ExplicitVRLittleEndian,
    "big-endian": pydicom.uid.ExplicitVRBigEndian, "deflated": pydicom.uid.DeflatedExplicitVRLittleEndian,
    "rle": pydicom.uid.RLELossless, "jpeg-ls": pydicom.uid.JPEGLSLossless, "jpeg-2000": pydicom.uid.JPEG2000Lossless,
}


def encode(base, encoding, number, out):
    """The base in an encoding; whether this machine can write it."""
    ds = pydicom.dcmread(base)
    ds.remove_private_tags()
    ds.InstanceNumber, ds.SeriesNumber = number, number
    if "FFFCFFFC" in ds:
        del ds["FFFCFFFC"]
    if encoding in ("rle", "jpeg-ls", "jpeg-2000"):
        try:
            ds.compress(ENCODINGS[encoding], generate_instance_uid=False)
        except (RuntimeError, NotImplementedError, ValueError) as why:
            print(f"{encoding} not written: {why}", file=sys.stderr)
            return False
    big = encoding == "big-endian"
    if big:
        ds.PixelData = np.frombuffer(ds.PixelData, "<u2").astype(">u2").tobytes()
    ds.file_meta.TransferSyntaxUID = ENCODINGS[encoding]
    ds["PixelData"].VR = "OW" if encoding in ("implicit", "explicit", "big-endian", "deflated") else "OB"
    plain = encoding == "implicit"
    # The data set is told its encoding, which may not be that of the file it comes from.
    out_ds = pydicom.Dataset()
    out_ds.update({tag: ds[tag] for tag in ds.keys()})
    out_ds.file_meta = ds.file_meta
    pydicom.dcmwrite(out, out_ds, implicit_vr=plain, little_endian=not big, enforce_file_format=True)
    return True


def separate(plant, number):
    """Makes what is planted next an instance of its own: its UIDs get an ending, which a search for them still finds."""
    stress, realistic = type(plant.Canary()).make, plant_realistic.make
    ended = lambda vr, made: (f"{made[0]}.{number}", made[1]) if vr == "UI" else made  # noqa: E731
    plant.Canary.val = lambda self, vr: ended(vr, stress(self, vr))
    plant_realistic.canary = lambda n, vr: ended(vr, realistic(n, vr))


def main():
    plant_dir, ct, out = sys.argv[1], sys.argv[2], Path(sys.argv[3])
    sys.path.insert(0, plant_dir)
    sys.argv = sys.argv[:1]
    import plant

    plant.Canary.make, plant_realistic.make = plant.Canary.val, plant_realistic.canary
    bases = {"chest": ct, "ct": get_testdata_file("CT_small.dcm"), "mr": get_testdata_file("MR_small.dcm")}
    made = {"stress": plant.plant, "realistic": plant_realistic.plant, "burned-in": plant.plant}
    for folder in ("bases", *made):
        (out / folder).mkdir(parents=True)
    found, used, number = {tier: {} for tier in made}, {tier: {} for tier in made}, 0
    for name, base in bases.items():
        for encoding in ENCODINGS:
            number += 1
            plain = out / "bases" / f"{name}-{encoding}"
            if not encode(base, encoding, number, plain):
                continue
            separate(plant, number)
            for tier, put in made.items():
                if tier == "burned-in" and encoding != "explicit":
                    continue
                planted = out / tier / f"{name}-{encoding}"
                plant.BURNED_IN = tier == "burned-in"
                with contextlib.redirect_stdout(io.StringIO()):
                    put(str(plain), str(planted))
                key = Path(f"{planted}.key.json")
                answers = json.loads(key.read_text())
                key.unlink()
                raw = planted.read_bytes()
                if encoding != "deflated":
                    lost = [c for c in answers["canaries"] if c[0].encode() not in raw]
                    # plant.py plants trailing padding twice, the second over the first.
                    assert all(c[2] == "(FFFC,FFFC)" for c in lost), f"{planted}: {lost}"
                found[tier] |= {c[0]: [c[0], c[1], c[3]] for c in answers["canaries"]}
                used[tier][planted.name] = str(plain.resolve())
    for tier in made:
        write_key(out / f"{tier}.key.json", out / tier, list(found[tier].values()), bases=used[tier])
        print(f"{tier}: {len(used[tier])} files, {len(found[tier])} different identifiers")


if __name__ == "__main__":
    main()
