"""Puts the identifiers of one patient into data sets, level by level: patient, study, series, instance, file meta, preamble.

For make_study.py. Needs pydicom and highdicom (its UIDs).
"""

import copy

import highdicom as hd
import pydicom
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.uid import ExplicitVRLittleEndian

from canaries import Canaries

PATIENT = """PatientName PatientID IssuerOfPatientID PatientBirthDate PatientBirthTime OtherPatientNames PatientBirthName
PatientMotherBirthName PatientAddress PatientTelephoneNumbers CountryOfResidence EthnicGroup Occupation PatientComments
MedicalRecordLocator MilitaryRank BranchOfService ResponsiblePerson ResponsibleOrganization""".split()
STUDY = """StudyDate StudyTime StudyID AccessionNumber ReferringPhysicianName ReferringPhysicianAddress
ReferringPhysicianTelephoneNumbers StudyDescription PhysiciansOfRecord NameOfPhysiciansReadingStudy RequestingPhysician
RequestingService RequestedProcedureDescription AdmissionID AdmittingDate AdmittingTime AdmittingDiagnosesDescription
AdditionalPatientHistory CurrentPatientLocation ReasonForStudy StudyComments""".split()
SERIES = """SeriesDate SeriesTime SeriesDescription PerformingPhysicianName OperatorsName ProtocolName PerformedStationName
PerformedStationAETitle PerformedProcedureStepID PerformedProcedureStepStartDate PerformedProcedureStepStartTime
PerformedProcedureStepEndDate PerformedProcedureStepEndTime PerformedProcedureStepDescription InstitutionName InstitutionAddress
InstitutionalDepartmentName StationName DeviceSerialNumber DeviceUID DateOfLastCalibration TimeOfLastCalibration""".split()
INSTANCE = """InstanceCreationDate InstanceCreationTime ContentDate ContentTime""".split()
IMAGE = """AcquisitionDate AcquisitionTime ImageComments AcquisitionComments IrradiationEventUID""".split()


def code(value, scheme, meaning):
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = value, scheme, meaning
    return item


class Planter:
    """The identifiers of one patient, put into data sets level by level."""

    def __init__(self, number):
        self.canaries = Canaries(number)
        self.patient = self.values(PATIENT, "patient")
        self.patient["OtherPatientIDsSequence"] = Sequence([self.item("PatientID IssuerOfPatientID", "patient item")])
        self.patient["OtherPatientIDsSequence"][0].TypeOfPatientID = "TEXT"
        self.frame = self.uid("frame of reference")

    def make(self, keyword, place):
        vr = pydicom.datadict.dictionary_VR(keyword)
        return self.canaries.make(vr, f"{place}: {keyword}")

    def text(self, place, vr="LO"):
        return self.canaries.make(vr, place)

    def uid(self, place):
        return hd.UID(self.canaries.make("UI", place))

    def values(self, keywords, place):
        return {keyword: self.make(keyword, place) for keyword in keywords}

    def item(self, keywords, place):
        item = Dataset()
        for keyword, value in self.values(keywords.split(), place).items():
            setattr(item, keyword, value)
        return item

    def person(self, place):
        """A person identification item, nested twice."""
        item = self.item("InstitutionName PersonAddress PersonTelephoneNumbers", place)
        item.PersonIdentificationCodeSequence = Sequence([code("309343006", "SCT", self.text(place + ": code meaning"))])
        return item

    def new_study(self, place):
        study = self.values(STUDY, place)
        study["StudyInstanceUID"] = self.uid(place)
        study["PatientAge"] = "093Y"
        study["ReferringPhysicianIdentificationSequence"] = Sequence([self.person(place + " item")])
        return study

    def new_series(self, place, number):
        series = self.values(SERIES, place)
        # Unlike that of any other patient: verify_deid.py tells instances apart by their numbers.
        series["SeriesInstanceUID"], series["SeriesNumber"] = self.uid(place), 100 * self.canaries.patient + number
        request = self.item("RequestedProcedureID RequestedProcedureDescription ScheduledProcedureStepID "
                            "ScheduledProcedureStepDescription AccessionNumber", place + " request")
        series["RequestAttributesSequence"] = Sequence([request])
        series["OperatorIdentificationSequence"] = Sequence([self.person(place + " item")])
        return series

    def put(self, ds, study, series, place, image):
        """Every level into one instance; what makes it valid is left as it is."""
        for level in (self.patient, study, series):
            for keyword, value in level.items():
                setattr(ds, keyword, copy.deepcopy(value))
        for keyword, value in self.values(INSTANCE + (IMAGE if image else []), place).items():
            setattr(ds, keyword, value)
        equipment = self.item("InstitutionName StationName DeviceSerialNumber ContributionDescription ContributionDateTime",
                              place + " equipment")
        equipment.Manufacturer = "Example Works"
        equipment.PurposeOfReferenceCodeSequence = Sequence([code("109101", "DCM", "Acquisition Equipment")])
        ds.ContributingEquipmentSequence = Sequence([equipment])
        block = ds.private_block(0x0029, "EXAMPLE HEADER", create=True)
        block.add_new(0x10, "LO", self.text(place + " private"))
        block.add_new(0x11, "OB", b"\x01\x02" + self.text(place + " private bytes").encode().ljust(16) + b"\0\0")
        inner = self.item("PatientName PatientID StudyDate", place + " private item")
        block.add_new(0x12, "SQ", Sequence([inner]))
        ds.SpecificCharacterSet = "ISO_IR 192"
        ds.PatientSex, ds.ResponsiblePersonRole = "F", "PARENT"
        return ds


def save(ds, path, planter, place):
    """Writes it with identifiers in file meta and preamble too."""
    path.parent.mkdir(parents=True, exist_ok=True)
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = ds.SOPClassUID, ds.SOPInstanceUID
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.SourceApplicationEntityTitle = planter.text(place + " file meta", "AE")
    ds.file_meta = meta
    ds.preamble = planter.text(place + " preamble").encode().ljust(128, b"\0")
    ds.save_as(path, enforce_file_format=True)
