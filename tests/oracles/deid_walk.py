"""What de-identification may do to each attribute: the table of PS3.15, walks through data sets, pairs of source and result.

For verify_deid.py. Needs pydicom.
"""

import csv
import warnings
import zlib
from pathlib import Path

import pydicom
from pydicom.encaps import generate_fragments
from pydicom.multival import MultiValue

# Planted values need not be valid ones.
warnings.filterwarnings("ignore")
TABLE = Path(__file__).parents[2] / "plugins/anonymizer/data/ps315_table_e1-1.csv"
COLUMNS = {
    "safe-private": "retain_safe_private", "uids": "retain_uids", "device": "retain_device_identity",
    "institution": "retain_institution_identity", "patient-characteristics": "retain_patient_characteristics",
    "full-dates": "retain_longitudinal_full_dates", "modified-dates": "retain_longitudinal_modified_dates",
    "descriptors": "clean_descriptors", "structured-content": "clean_structured_content", "graphics": "clean_graphics",
}
# Kinds of value that cannot hold prose; those of the table among them are told apart by their tags.
BOUNDED = {"CS", "DS", "IS", "US", "SS", "UL", "SL", "FL", "FD", "AT", "OF", "OD", "UV", "SV", "LO", "SH"}
# What de-identification itself says, and what depends on how a file is written.
OWN = {0x00080005, 0x00080001, 0x00120062, 0x00120063, 0x00120064, 0x00280303, 0x00280301}


def table():
    """Rows by tag; the repeating groups are not among them."""
    rows = {}
    with open(TABLE, newline="") as file:
        for row in csv.DictReader(file):
            group, _, element = row["tag"].strip("()").partition(",")
            try:
                rows[int(group, 16) << 16 | int(element, 16)] = row
            except ValueError:
                continue
    return rows


ROWS = table()


def listed(tag, options=()):
    """Whether the table allows an attribute to go or change with these options."""
    group = tag >> 16
    if group % 2 or 0x5000 <= group < 0x5100 or 0x6000 <= group < 0x6100 or group in (0xFFFA, 0xFFFC) or tag & 0xFFFF == 0:
        return True
    row = ROWS.get(tag)
    return row is not None and not any(row[COLUMNS[o]] for o in options if o in COLUMNS)


def walk(ds, options=(), path=(), free=False):
    """Path, element and whether it is free to go, for every element at every level."""
    for element in ds:
        tag = int(element.tag)
        goes = free or listed(tag, options)
        here = (*path, tag)
        yield here, element, goes
        if element.VR == "SQ":
            for number, item in enumerate(element.value):
                yield from walk(item, options, (*here, number), goes)


def may_go(tag, options=()):
    """Whether the table lets an attribute itself go; those that must be remapped or replaced may not."""
    row = ROWS.get(tag)
    return listed(tag, options) and (row is None or row["basic_profile"] not in ("U", "D"))


def words(path):
    """A path in the words of dciodvfy."""
    return "/".join(f"({p >> 16:04x},{p & 0xFFFF:04x})" if p > 0xFFFF else f"[{p + 1}]" for p in path)


def values(element):
    """Values as text, as they stand in the file."""
    value = element.value
    if value is None or value == "":
        return []
    many = value if isinstance(value, (MultiValue, list, tuple)) else [value]
    return [str(v) for v in many]


def well_known(uid):
    return uid.startswith("1.2.840.10008.")


def uids(ds):
    """All UIDs of a data set that stand for something of the patient's."""
    return {v for _, e, _ in walk(ds) if e.VR == "UI" for v in values(e) if v and not well_known(v)}


def read_folder(folder):
    """Every DICOM file below a folder but directories: path, data set."""
    found = []
    for path in sorted(p for p in Path(folder).rglob("*") if p.is_file()):
        with open(path, "rb") as file:
            if file.read(132)[128:] != b"DICM":
                continue
        ds = pydicom.dcmread(path)
        if ds.file_meta.MediaStorageSOPClassUID != pydicom.uid.MediaStorageDirectoryStorage:
            found.append((path, ds))
    return found


def match(source, out):
    """Pairs of a source and its result, by class and the numbers of series and instance; and what has none."""
    def number(ds):
        return str(ds.SOPClassUID), str(ds.get("SeriesNumber", "")), str(ds.get("InstanceNumber", ""))
    known = {}
    for path, ds in source:
        assert number(ds) not in known, f"{path}: a second instance {number(ds)}: no answer key can tell them apart"
        known[number(ds)] = path, ds
    pairs, strangers = [], []
    for path, ds in out:
        before = known.pop(number(ds), None)
        if before:
            pairs.append((*before, path, ds))
        else:
            strangers.append(path)
    return pairs, [path for path, _ in known.values()], strangers


def pixels(ds):
    """Pixels such that equal ones are the same whatever the byte order, and encapsulated ones the same fragments."""
    if "PixelData" not in ds:
        return None
    syntax = ds.file_meta.TransferSyntaxUID
    data = ds.PixelData
    if syntax.is_encapsulated:
        return syntax, list(generate_fragments(data))
    size = ds.BitsAllocated // 8
    if not syntax.is_little_endian and (size > 1 or ds["PixelData"].VR == "OW"):
        size = max(size, 2)
        data = b"".join(data[at:at + size][::-1] for at in range(0, len(data), size))
    return "native", data


def inflated(path):
    """The bytes of a file; of a deflated one also the data set as it was."""
    content = path.read_bytes()
    if content[128:132] == b"DICM":
        meta = pydicom.filereader.read_file_meta_info(path)
        if meta.get("TransferSyntaxUID") == pydicom.uid.DeflatedExplicitVRLittleEndian:
            start = 132 + 12 + meta.FileMetaInformationGroupLength
            content += zlib.decompress(content[start:], -zlib.MAX_WBITS)
    return content
