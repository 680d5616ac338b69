#!/usr/bin/env python3
"""Write a CT slice once for each of many character sets, with names and technical text of the languages that use them.

    make_charsets.py CT_SLICE OUT_DIR

OUT_DIR/<set>/<set> is one instance of one study and patient; names stand in patient, physician and operator attributes and
in comments, with ideographic and phonetic parts where there are such. OUT_DIR.key.json holds the names, as text and as the
bytes that stand in the file, and the technical text that must come out as it was (maker, code meanings). One file has a
sequence item with a character set of its own. Needs pydicom.
"""

import sys
from pathlib import Path

import pydicom
from pydicom.charset import convert_encodings, custom_encoders, encode_string
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from canaries import Canaries, write_key

# Character sets, patient, physician, operator, maker, code meaning. `%` becomes an ASCII identifier.
SETS = {
    "korean": ([None, "ISO 2022 IR 149"], "%^Gildong=洪^吉洞=홍^길동", "Kim^%=金^哲洙=김^철수", "박^영희", "한국영상기기", "흉부 단층"),
    "japanese": ([None, "ISO 2022 IR 87"], "%^Tarou=山田^太郎=やまだ", "Sato^%=佐藤^花子=さとう",
                 "鈴木^一郎", "東京医用画像", "胸部断層"),
    "japanese-kana": (["ISO 2022 IR 13", "ISO 2022 IR 87"], "ﾔﾏﾀﾞ^ﾀﾛｳ=山田^太郎=やまだ^たろう", "ｻﾄｳ^ﾊﾅｺ=佐藤^花子=さとう^はなこ",
                      "ｽｽﾞｷ^ｲﾁﾛｳ", "ﾄｳｷｮｳ画像", "胸部ﾀﾞﾝｿｳ"),
    "japanese-more": ([None, "ISO 2022 IR 87", "ISO 2022 IR 159"], "%^Tarou=山田^太郎=やまだ", "Sato^%=佐藤^花子=さとう",
                      "鈴木^一郎", "東京画像丂丄丅", "胸部断層"),
    "chinese-gb18030": (["GB18030"], "%^XiaoDong=王^小东", "Li^%=李^明华", "张^伟强", "北京影像设备", "胸部断层扫描"),
    "chinese-gbk": (["GBK"], "%^XiaoDong=王^小東", "Li^%=李^明華", "張^偉強", "北京影像設備", "胸部斷層掃描"),
    "chinese-gb2312": ([None, "ISO 2022 IR 58"], "%^XiaoDong=王^小东", "Li^%=李^明华", "张^伟强", "北京影像设备", "胸部断层扫描"),
    "russian": (["ISO_IR 144"], "Люксембург^Роза", "Иванов^Пётр^%", "Сидорова^Анна", "Завод Приборов", "грудная клетка"),
    "greek": (["ISO_IR 126"], "Διονυσιου^Μαρια", "Παπαδοπουλος^%", "Γεωργιου^Ελενη", "Εργοστασιο Απεικονισης", "θωρακας"),
    "arabic": (["ISO_IR 127"], "قباني^لنزار", "حسين^%", "فاطمة^الزهراء", "مصنع الأجهزة", "الصدر"),
    "hebrew": (["ISO_IR 138"], "שרון^דבורה", "כהן^%", "לוי^משה", "מפעל הדמיה", "בית החזה"),
    "thai": (["ISO_IR 166"], "นามสกุล^สมชาย", "ใจดี^%", "รักเรียน^มานี", "โรงงานภาพ", "ทรวงอก"),
    "latin": (["ISO_IR 100"], "Büçquéê^Jérôme", "Müßigbräu^%", "Åstrøm^Øyvind", "Gerätebau Köln", "Thorax: Schädelnähe"),
    "latin-czech": (["ISO_IR 101"], "Dvořáková^Žofie", "Čapková^%", "Říhová^Šárka", "Přístrojová výroba", "hrudník čelně"),
    "utf-8": (["ISO_IR 192"], "%^XiaoDong=王^小東=ワン^シャオ", "Ødegård^%", "Łukasz^Żółć", "Büro für 画像 Ψ", "胸部 грудь θώραξ"),
    "mixed-europe": (["ISO 2022 IR 100", "ISO 2022 IR 126", "ISO 2022 IR 144"], "Büçquéê^Διονυσιου^Люксембург", "Иванов^%^Γεωργιου",
                     "Åstrøm^Сидорова", "Gerätebau Завод Εργο", "Köln θωρακας грудь"),
    "mixed-asia": ([None, "ISO 2022 IR 149", "ISO 2022 IR 87"], "%^Tarou=山田^太郎=홍^길동", "Kim^%=佐藤^花子=김^철수", "박^영희",
                   "한국 東京画像", "흉부 胸部断層"),
}


def encode_gb2312(text, errors="strict"):
    """The simplified Chinese set with its escape sequence, which pydicom leaves out."""
    return b"\x1b$)A" + text.encode("gb2312", errors)


def parts(value):
    """A name and its components."""
    groups = value.split("=")
    return {value, *groups, *(c for g in groups for c in g.split("^"))}


def code(value, meaning):
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = value, "SCT", meaning
    return item


def main():
    base, out = sys.argv[1], Path(sys.argv[2])
    ascii_text = Canaries(7)
    custom_encoders["iso_ir_58"] = encode_gb2312
    names, raw, kept = [], [], {}
    for number, (name, (sets, *texts)) in enumerate(SETS.items()):
        patient, physician, operator, maker, meaning = (t.replace("%", ascii_text.make("SH", name)) if "%" in t else t for t in texts)
        ds = pydicom.dcmread(base)
        ds.SpecificCharacterSet = sets[0] if len(sets) == 1 else ["" if s is None else s for s in sets]
        ds.PatientName, ds.ReferringPhysicianName, ds.OperatorsName = patient, physician, [operator, physician]
        ds.PatientID = ascii_text.make("LO", name)
        ds.PatientComments = f"{patient.split('=')[-1].replace('^', ' ')} {operator.replace('^', ' ')} {maker}"
        ds.InstitutionName = f"{meaning} {operator.replace('^', ' ')}"
        other = Dataset()
        other.PatientName, other.PatientID, other.TypeOfPatientID = operator, ds.PatientID, "TEXT"
        ds.OtherPatientIDsSequence = Sequence([other])
        ds.Manufacturer, ds.ConvolutionKernel = maker, maker[:2]
        ds.AnatomicRegionSequence = Sequence([code("51185008", meaning)])
        if name == "russian":
            inner = code("7771000", "胸部断層")
            inner.SpecificCharacterSet = ["", "ISO 2022 IR 87"]
            ds.AnatomicRegionSequence[0].AnatomicRegionModifierSequence = Sequence([inner])
        ds.StudyInstanceUID, ds.SeriesInstanceUID = ascii_text.make("UI", name), ascii_text.make("UI", name)
        ds.SOPInstanceUID = ds.file_meta.MediaStorageSOPInstanceUID = ascii_text.make("UI", name)
        ds.FrameOfReferenceUID = ascii_text.make("UI", name)
        ds.SeriesNumber, ds.InstanceNumber = 100 + number, 1
        (out / name).mkdir(parents=True)
        ds.save_as(out / name / name, enforce_file_format=True)
        content, encodings = (out / name / name).read_bytes(), convert_encodings(list(sets))
        for text in set().union(*(parts(v) for v in (patient, physician, operator))):
            # Escape sequences between components are those of the whole: each component alone is searched too.
            encoded = encode_string(text, encodings)
            if len(encoded) >= 5 and encoded in content and "KWID" not in text:
                raw.append([encoded.hex(), name])
            if len(text.encode()) >= 5 and text not in (n[0] for n in names) and "KWID" not in text and not text.isascii():
                names.append([text, name, "PN"])
        assert encode_string(maker, encodings) in content, name
        assert any(r[1] == name for r in raw), f"no bytes of a name of {name} stand in its file"
        kept[name] = [maker, meaning]
    raw = [list(r) for r in dict((r[0], r) for r in raw).values()]
    write_key(Path(f"{out}.key.json"), out, ascii_text.log + names, raw=raw, kept=kept)
    print(f"{out}: {len(SETS)} character sets, {len(names)} names as text, {len(raw)} as bytes")


if __name__ == "__main__":
    main()
