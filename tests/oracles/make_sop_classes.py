"""Make plugins/anonymizer/data/sop_classes.csv: how the anonymizer treats objects of each storage class of the standard.

    python make_sop_classes.py > ../../plugins/anonymizer/data/sop_classes.csv

Needs pydicom, whose UID dictionary names the storage classes; YOUNGER adds those of later editions. What happens to a class was decided by
hand, below: `image` holds pixels that an acquisition or a capture made, `computed` pixels that were computed, `object` none. Every class
that nobody has decided on is `refused`, so a class that a newer dictionary brings is refused until somebody does.
"""
import csv, sys
from pydicom.uid import UID_dictionary

ROOT = '1.2.840.10008.5.1.4.'
STORAGE = ROOT + '1.1.'

# Storage classes that are in PS3.6 and not in the dictionary of pydicom 3.0.2.
YOUNGER = {
    STORAGE + '9.100.1': 'Waveform Presentation State Storage',
    STORAGE + '9.100.2': 'Waveform Acquisition Presentation State Storage',
    STORAGE + '66.7': 'Label Map Segmentation Storage',
    STORAGE + '66.8': 'Height Map Segmentation Storage',
}

# By kind, below STORAGE. Not here, and so refused: waveforms and voices, raw data, standalone overlays, curves and tables (retired),
# trial classes, surface scans, ophthalmic measurements, annotations in bulk, encapsulated documents, protocols, displays, inventories,
# templates, prints, and what was examined for security or in industry (DICOS, DICONDE).
DECIDED = {
    'image': {
        'CR, DX, MG, IO': '1 1.1 1.1.1 1.2 1.2.1 1.3 1.3.1',
        'CT': '2 2.1 2.2',
        'ultrasound': '3 3.1 6 6.1 6.2 6.3',
        'MR': '4 4.1 4.3 4.4',
        'nuclear medicine, PET': '5 20 128 128.1 130',
        'captures': '7 7.1 7.2 7.3 7.4',
        'angiography, fluoroscopy, tomosynthesis': '12.1 12.1.1 12.2 12.2.1 12.3 13.1.1 13.1.2 13.1.3 13.1.4 13.1.5',
        'optical coherence tomography': '14.1 14.2',
        'visible light': '77.1.1 77.1.1.1 77.1.2 77.1.2.1 77.1.3 77.1.4 77.1.4.1 77.1.6 77.1.7 77.1.8 77.1.9',
        'ophthalmic': '77.1.5.1 77.1.5.2 77.1.5.4 77.1.5.5 77.1.5.6 77.1.5.7 81.1',
        'radiotherapy': '481.1 481.23 481.24',
    },
    'computed': {
        'parametric maps': '30',
        'segmentations': '66.4 66.7 66.8',
        'dose': '481.2',
    },
    'object': {
        'spectroscopy': '4.2',
        'presentation states': '11.1 11.2 11.3 11.4 11.5 11.6 11.7 11.8 11.9 11.10 11.11 11.12',
        'registrations, fiducials, surfaces, tracts, real world values': '66.1 66.2 66.3 66.5 66.6 67',
        'reports, key objects': '88.11 88.22 88.33 88.34 88.35 88.40 88.50 88.59 88.65 88.67 88.68 88.69 88.70 88.71 88.72 88.73 88.74 88.75 '
                                '88.76 88.77 90.1',
        'radiotherapy': '481.3 481.4 481.5 481.6 481.7 481.8 481.9 481.10 481.11 481.12 481.13 481.14 481.15 481.16 481.17 481.18 481.19 '
                        '481.20 481.21 481.22 481.25',
    },
}
# Delivery instructions of radiotherapy, which lie elsewhere.
ELSEWHERE = {ROOT + '34.7': 'object', ROOT + '34.10': 'object'}

kinds = {STORAGE + tail: kind for kind, families in DECIDED.items() for tails in families.values() for tail in tails.split()} | ELSEWHERE
# Storage Commitment stores nothing.
names = {uid: entry[0] for uid, entry in UID_dictionary.items()
         if entry[1] == 'SOP Class' and 'Storage' in entry[0] and 'Commitment' not in entry[0]}
unknown = sorted(kinds.keys() - names.keys() - YOUNGER.keys())
assert not unknown, f'decided on, but no storage classes: {unknown}'

out = csv.writer(sys.stdout, lineterminator='\n')
out.writerow(['uid', 'name', 'kind'])
for uid, name in sorted((YOUNGER | names).items(), key=lambda entry: [int(part) for part in entry[0].split('.')]):
    out.writerow([uid, name, kinds.get(uid, 'refused')])
