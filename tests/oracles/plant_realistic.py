"""Plant identifiers where a hospital puts them (the realistic tier), each unique and byte-searchable.

    python plant_realistic.py BASE.dcm OUT.dcm [BASE2 OUT2 ...]

Writes OUT.dcm and OUT.dcm.key.json in the form that score.py of the stress tier reads. The places: patient, visit, study, series and
equipment attributes of a usual scan, identification and request sequences, contributing equipment, references, a vendor's private block
(text, a nested sequence, bytes with a name inside), an overlay with comment and label, file meta, preamble. Needs pydicom.
"""
import json, sys, warnings
import pydicom
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.datadict import tag_for_keyword, dictionary_VR, keyword_for_tag
from pydicom.tag import Tag

warnings.filterwarnings('ignore')
pydicom.config.settings.writing_validation_mode = pydicom.config.IGNORE
pydicom.config.settings.reading_validation_mode = pydicom.config.IGNORE

TOP = '''PatientName PatientID IssuerOfPatientID PatientBirthDate PatientBirthTime OtherPatientNames PatientBirthName PatientMotherBirthName
PatientAddress PatientTelephoneNumbers CountryOfResidence Occupation AdditionalPatientHistory PatientComments MedicalRecordLocator
EthnicGroup AccessionNumber StudyID StudyDate StudyTime SeriesDate SeriesTime AcquisitionDate ContentTime InstanceCreationDate
ReferringPhysicianName ReferringPhysicianTelephoneNumbers PhysiciansOfRecord PerformingPhysicianName NameOfPhysiciansReadingStudy OperatorsName
InstitutionName InstitutionAddress InstitutionalDepartmentName StationName DeviceSerialNumber StudyDescription SeriesDescription
ProtocolName ImageComments AdmissionID CurrentPatientLocation PerformedProcedureStepID PerformedProcedureStepDescription
PerformedProcedureStepStartDate PerformedStationName RequestingPhysician RequestedProcedureDescription ReasonForStudy
AdmittingDate AdmittingTime AdmittingDiagnosesDescription VisitComments ServiceEpisodeID PatientInstitutionResidence PatientState
SpecialNeeds Allergies MedicalAlerts ResponsiblePerson RequestingService ScheduledProcedureStepID ScheduledProcedureStepStartDate
StudyInstanceUID SeriesInstanceUID SOPInstanceUID FrameOfReferenceUID DeviceUID IrradiationEventUID'''.split()


def canary(n, vr):
    text = {'PN': 'Vgr%04d^Hnk' % n, 'DA': '18%02d%02d%02d' % (10 + n // 336, 1 + n % 12, 1 + n // 12 % 28), 'TM': '2137%02d.%06d' % (n % 60, 810000 + n),
            'DT': '18400101%06d.%06d' % (213700, 820000 + n), 'UI': '1.2.826.0.1.3680043.8.498.5555.%d' % (7000000 + n)}.get(vr, 'VGRID%04dHK' % n)
    found = {'PN': 'Vgr%04d' % n, 'UI': '5555.%d' % (7000000 + n)}.get(vr, text)
    return text, found


def plant(base, out):
    ds = pydicom.dcmread(base, force=True)
    log, safe, count = [], {}, [0]
    listed = {tag_for_keyword(k) for k in TOP}
    def value(vr, where, tag):
        count[0] += 1
        text, found = canary(count[0], vr)
        log.append((found, where, str(Tag(tag)), vr))
        return text
    def put(d, keyword, where):
        tag = tag_for_keyword(keyword)
        vr = dictionary_VR(tag)
        d.add_new(tag, vr, value(vr, where, tag))
    def item(where, *keywords):
        d = Dataset()
        for k in keywords:
            put(d, k, where)
        return d
    table = set()
    import csv, os
    here = os.path.dirname(os.path.abspath(__file__))
    for row in csv.DictReader(open(os.path.join(here, '..', '..', 'plugins', 'anonymizer', 'data', 'ps315_table_e1-1.csv'))):
        g, _, e = row['tag'].strip('()').partition(',')
        try: table.add((int(g, 16) << 16) | int(e, 16))
        except ValueError: pass
    for e in ds:
        if not (e.tag.is_private or e.tag in table or e.VR == 'SQ' or e.tag.group in (2, 0x7fe0) or e.value in (None, '')):
            safe[str(int(e.tag))] = (e.keyword, str(e.value))
    for k in TOP:
        put(ds, k, 'top')
    ds.OtherPatientIDsSequence = Sequence([item('nested', 'PatientID', 'IssuerOfPatientID')])
    ds.RequestAttributesSequence = Sequence([item('nested', 'RequestedProcedureID', 'ScheduledProcedureStepDescription')])
    equipment = item('nested', 'InstitutionName', 'StationName', 'DeviceSerialNumber', 'ContributionDescription')
    equipment.Manufacturer = 'Example Works'
    code = Dataset(); code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning = '109101', 'DCM', 'Acquisition Equipment'
    equipment.PurposeOfReferenceCodeSequence = Sequence([code])
    equipment.OperatorIdentificationSequence = Sequence([item('nested-2', 'PersonAddress', 'PersonTelephoneNumbers')])
    ds.ContributingEquipmentSequence = Sequence([equipment])
    reference = item('nested', 'ReferencedSOPInstanceUID'); reference.ReferencedSOPClassUID = ds.SOPClassUID
    ds.ReferencedImageSequence = Sequence([reference])
    block = ds.private_block(0x0029, 'EXAMPLE HEADER', create=True)
    block.add_new(0x10, 'LO', value('LO', 'private', 0x00291010)); block.add_new(0x11, 'PN', value('PN', 'private', 0x00291011))
    block.add_new(0x12, 'OB', b'\x01\x02' + value('LO', 'private-bytes', 0x00291012).encode().ljust(16) + b'\x00\x00')
    block.add_new(0x13, 'SQ', Sequence([item('private-nested', 'PatientName')]))
    for element, vr, v in ((0x0010, 'US', 8), (0x0011, 'US', 8), (0x0040, 'CS', 'G'), (0x0050, 'SS', [1, 1]), (0x0100, 'US', 1), (0x0102, 'US', 0)):
        ds.add_new(Tag(0x6000, element), vr, v)
    ds.add_new(Tag(0x6000, 0x3000), 'OW', b'\0' * 8)
    ds.add_new(Tag(0x6000, 0x4000), 'LT', value('LT', 'overlay', 0x60004000))
    ds.add_new(Tag(0x6000, 0x1500), 'LO', value('LO', 'overlay', 0x60001500))
    ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID
    ds.file_meta.SourceApplicationEntityTitle = value('AE', 'file-meta', 0x00020016)
    ds.file_meta.PrivateInformationCreatorUID, ds.file_meta.PrivateInformation = '1.2.3.4.5', value('LO', 'file-meta', 0x00020102).encode()
    ds.preamble = (b'II*\0' + value('LO', 'preamble', 0).encode()).ljust(128, b'\0')
    ds.save_as(out, enforce_file_format=True)
    json.dump({'canaries': log, 'safe': safe, 'base': base}, open(out + '.key.json', 'w'))
    raw = open(out, 'rb').read()
    missing = [c for c in log if c[0].encode() not in raw]
    print(out, 'planted', len(log), 'missing in file', len(missing), missing[:3], 'safe attributes', len(safe))
    assert len({c[0] for c in log}) == len(log), 'canaries must differ'


if __name__ == '__main__':
    for base, out in zip(sys.argv[1::2], sys.argv[2::2]):
        plant(base, out)
