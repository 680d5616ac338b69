"""Unique, byte-searchable identifiers: made by kind of value, written to an answer key, and searched for in every form.

For make_study.py, make_charsets.py, make_planted.py and verify_deid.py. A canary is a text that occurs nowhere else, so that
finding it in a file proves that the file tells something of the patient. Needs numpy.
"""

import base64
import datetime
import json
import re
from pathlib import Path
from urllib.parse import quote

import numpy as np

ROOT = "1.2.826.0.1.3680043.8.498.6666"
# What a search of whole files by windows of so many bytes can find; shorter forms are searched one by one.
WINDOW = 6


class Canaries:
    """Makes the identifiers of one patient; no two are alike, nor are those of two patients."""

    def __init__(self, patient=1):
        self.patient, self.count, self.log = patient, 0, []
        # Days around the leap day of a leap year, and a year's turn; all before 1850.
        self.first_day = datetime.date(1839, 12, 20) - datetime.timedelta(days=4000 * ((patient - 1) % 8))
        self.days = 0

    def make(self, vr, place):
        """A value of this kind and place."""
        self.count += 1
        n = self.patient * 10000 + self.count
        if vr == "PN":
            text, found = f"Wkl{n:06}^Jpq", f"Wkl{n:06}"
        elif vr == "DA":
            text = found = (self.first_day + datetime.timedelta(days=self.days)).strftime("%Y%m%d")
            self.days += 1
        elif vr == "TM":
            text = found = f"23{59 - n % 2}{n % 60:02}.{n % 1000000:06}"
        elif vr == "DT":
            day = (self.first_day + datetime.timedelta(days=self.days)).strftime("%Y%m%d")
            self.days += 1
            text, found = f"{day}2358{n % 60:02}.{n % 1000000:06}", day
        elif vr == "UI":
            text, found = f"{ROOT}.{1000000 + n}", f"6666.{1000000 + n}"
        elif vr == "AE":
            text = found = f"KWAE{n:06}"
        elif vr == "IS":
            text = found = str(970000000 + n)
        else:
            text = found = f"KWID{n:06}QX"
        self.log.append([found, place, vr])
        return text

    def also(self, text, place, vr="LO"):
        """Logs a text that was there already."""
        self.log.append([text, place, vr])
        return text


def write_key(path, source, canaries, **more):
    """The answer key that verify_deid.py reads."""
    texts = [entry[0] for entry in canaries]
    assert len(set(texts)) == len(texts), "canaries must differ: " + str({t for t in texts if texts.count(t) > 1})
    key = {"source": str(Path(source).resolve()), "canaries": canaries, **more}
    Path(path).write_text(json.dumps(key, indent=1, ensure_ascii=True))


def missing(folder, canaries):
    """Canaries that no file of a folder holds as plain bytes (a fault of the maker)."""
    content = [p.read_bytes() for p in sorted(Path(folder).rglob("*")) if p.is_file()]
    return [c for c in canaries if not any(c[0].encode() in bytes_ for bytes_ in content)]


def base64_forms(data):
    """What of base64 text is certain when `data` lies at each of the three alignments."""
    for shift in range(3):
        coded = base64.b64encode(b"\0" * shift + data)
        end = (shift + len(data)) * 8 // 6
        yield coded[[0, 2, 3][shift]:end]


def forms(data):
    """The byte strings in which a value may hide, given its bytes and, where they are text, as text."""
    text = data.decode("utf-8", "replace") if isinstance(data, bytes) else data
    plain = data if isinstance(data, bytes) else data.encode()
    yield plain
    if "\ufffd" not in text:
        yield text.encode("utf-16-le")
        yield text.encode("utf-16-be")
        yield quote(text).encode()
        yield quote(text).lower().encode()
        yield json.dumps(text)[1:-1].encode()
        yield "".join(f"\\u{{{ord(c):x}}}" if ord(c) > 126 else c for c in text).encode()
    yield b"".join(b"%%%02X" % byte for byte in plain)
    yield b"".join(b"%%%02x" % byte for byte in plain)
    yield plain.hex().encode()
    yield plain.hex().upper().encode()
    # What Rust and Python write of bytes.
    yield b"".join(b"\\x%02x" % byte if byte > 126 or byte < 32 else bytes([byte]) for byte in plain)
    yield ", ".join(map(str, plain)).encode()
    if len(plain) >= WINDOW:
        yield from base64_forms(plain)
        if "\ufffd" not in text:
            yield from base64_forms(text.encode("utf-16-le"))


class Search:
    """Finds many canaries in many files."""

    def __init__(self, canaries):
        """`canaries`: texts, or bytes as they stand in a file."""
        self.short, self.long = [], {}
        for canary in canaries:
            for form in set(forms(canary)):
                if len(form) < WINDOW:
                    self.short.append((form, canary))
                else:
                    self.long.setdefault(self.code(form[:WINDOW]), []).append((form, canary))
        self.codes = np.array(sorted(self.long), np.uint64)

    @staticmethod
    def code(window):
        return int.from_bytes(window, "little")

    def find(self, data):
        """The canaries in `data`."""
        found = {canary for form, canary in self.short if form in data and self.means(form, data)}
        if len(data) < WINDOW or not len(self.codes):
            return found
        padded = np.frombuffer(data, np.uint8)
        count = len(padded) - WINDOW + 1
        windows = np.zeros(count, np.uint64)
        for at in range(WINDOW):
            windows |= padded[at:at + count].astype(np.uint64) << np.uint64(8 * at)
        at = np.searchsorted(self.codes, windows)
        hits = np.flatnonzero(self.codes[np.minimum(at, len(self.codes) - 1)] == windows)
        for place in hits.tolist():
            for form, canary in self.long[int(windows[place])]:
                if data.startswith(form, place) and not self.by_chance(form, data, place):
                    found.add(canary)
        return found

    @staticmethod
    def by_chance(form, data, place):
        """Digits within the long random number of a UID of the root 2.25 or within a hexadecimal digest mean nothing."""
        if not form.isdigit() or len(form) > 9:
            return False
        around = data[max(place - 40, 0):place + len(form) + 40]
        run = next(m for m in re.finditer(rb"[0-9a-f]+", around) if form in m.group())
        return len(run.group()) >= 28

    @staticmethod
    def means(form, data):
        """A form of few bytes counts as a whole word only."""
        return re.search(rb"(?<![0-9A-Za-z])" + re.escape(form) + rb"(?![0-9A-Za-z])", data) is not None
