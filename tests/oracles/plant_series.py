#!/usr/bin/env python3
"""Plant the identifiers of plant_realistic.py into every slice of a small series.

    plant_series.py SOURCE_DIR OUT_DIR CANARIES.json [KEYWORD=VALUE ...]

All slices carry the same identifiers, as a real series does; only the SOP Instance UIDs differ (and contain the planted
one). CANARIES.json lists what a search of the results must not find. KEYWORD=VALUE sets more attributes.
"""

import json
import sys
from pathlib import Path

import pydicom

import plant_realistic


def main():
    source, out, canaries = map(Path, sys.argv[1:4])
    out.mkdir(parents=True)
    found = set()
    for number, path in enumerate(sorted(p for p in source.iterdir() if p.is_file())):
        made = out / path.name
        plant_realistic.plant(str(path), str(made))
        key = Path(str(made) + ".key.json")
        found |= {canary[0] for canary in json.loads(key.read_text())["canaries"]}
        key.unlink()
        ds = pydicom.dcmread(made)
        ds.SOPInstanceUID = f"{ds.SOPInstanceUID}.{number}"
        ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID
        for setting in sys.argv[4:]:
            keyword, value = setting.split("=", 1)
            setattr(ds, keyword, value)
        ds.save_as(made)
    canaries.write_text(json.dumps(sorted(found)))


if __name__ == "__main__":
    main()
