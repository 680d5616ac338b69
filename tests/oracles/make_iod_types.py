"""Make plugins/anonymizer/data/ps33_iod_types.csv: of which Type (PS3.3) the attributes are whose action depends on it.

    python make_iod_types.py > ../../plugins/anonymizer/data/ps33_iod_types.csv

Needs highdicom (it carries the tables of PS3.3 as JSON) and pydicom. Only facts are taken: attribute, place, Type, SOP Classes.
One row for an attribute at one place (tags of the enclosing sequences, outermost first) and one Type (1 or 2; conditional Types count as
their unconditional ones; everything not listed is Type 3 or absent there). `iods` names the composite IODs that have a patient for which
it holds: `*` all, `!a b` all but a and b. Content items nest without end; one level stands for all. The rows
before them, with an empty tag, name the SOP Classes of each IOD.
"""
import collections, csv, json, os, sys
import highdicom
from pydicom.datadict import keyword_dict

HERE = os.path.dirname(os.path.abspath(__file__))
TABLE = os.path.join(HERE, '..', '..', 'plugins', 'anonymizer', 'data', 'ps315_table_e1-1.csv')
STANDARD = os.path.join(os.path.dirname(highdicom.__file__), '_standard')
load = lambda name: json.load(open(os.path.join(STANDARD, name)))
sop_classes, iods, modules = load('sop_class_iod_map.json'), load('iod_module_map.json'), load('module_attribute_map.json')
STRICTNESS = {'3': 0, '2C': 1, '2': 1, '1C': 2, '1': 2}

wanted, removed = set(), set()
for row in csv.DictReader(open(TABLE)):
    if not row['tag'].startswith('(') or 'x' in row['tag']:
        continue
    group, element = row['tag'].strip('()').split(',')
    kind = removed if row['basic_profile'] == 'X' else wanted
    if row['basic_profile'] not in ('D', 'U'):
        kind.add((int(group, 16) << 16) | int(element, 16))

composite = {i for i in sop_classes.values() if any(m['key'] == 'patient' for m in iods[i])}
CONTENT = keyword_dict['ContentSequence']
once = lambda place: tuple(t for n, t in enumerate(place) if t != CONTENT or n == 0 or place[n - 1] != CONTENT)
strictest = {}
for iod in composite:
    for module in iods[iod]:
        for a in modules.get(module['key'], []):
            tag, kind = keyword_dict.get(a['keyword']), STRICTNESS.get(a['type'], 0)
            # What the profile always removes matters only where it must be present whatever else is.
            if kind and (tag in wanted or tag in removed and a['type'] in ('1', '2')):
                place = once(tuple(keyword_dict[k] for k in a['path']))
                strictest[tag, place, iod] = max(kind, strictest.get((tag, place, iod), 0))

rows = collections.defaultdict(set)
for (tag, place, iod), kind in strictest.items():
    rows[tag, place, {1: '2', 2: '1'}[kind]].add(iod)
out = csv.writer(sys.stdout, lineterminator='\n')
out.writerow(['tag', 'path', 'type', 'iods'])
for iod in sorted(composite):
    out.writerow(['', iod, 'sop', ' '.join(sorted(u for u, i in sop_classes.items() if i == iod))])
for (tag, place, kind), names in sorted(rows.items()):
    without = composite - names
    text = '*' if not without else ('!' + ' '.join(sorted(without)) if len(without) < len(names) else ' '.join(sorted(names)))
    out.writerow(['%08X' % tag, '/'.join('%08X' % t for t in place), kind, text])
