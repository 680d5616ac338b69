#!/usr/bin/env python3
"""Write one study of one patient, with every kind of object in it and an identifier in every place that holds text.

    make_study.py CT_SERIES_DIR OUT_DIR [PATIENT_NUMBER]

OUT_DIR gets
  study/     a CT series (20 slices), a segmentation of it, an RT structure set and a TID 1500 report about both, a PET and an
             MR series (4 slices each), an enhanced multi-frame CT, a presentation state with annotations, a key object selection
  dicomdir/  the same instances as a file-set with its DICOMDIR
  apart/     each a study of its own that must not pass as it is: a secondary capture with a name in its pixels, an ultrasound
             image with a banner, a CT slice that says it has text in its pixels, an encapsulated PDF
and OUT_DIR/{study,dicomdir,secondary-capture,ultrasound,burned-in,pdf}.key.json for verify_deid.py. Two patient numbers
share no identifier. Needs pydicom, highdicom, numpy and Pillow.
"""

import copy
import sys
import warnings
from pathlib import Path

import highdicom as hd
import numpy as np
import pydicom
from PIL import Image, ImageDraw
from pydicom.dataset import Dataset
from pydicom.fileset import FileSet
from pydicom.sequence import Sequence
from pydicom.sr.codedict import codes

from canaries import missing, write_key
from planter import Planter, code, save

warnings.filterwarnings("ignore")
SLICES, SIDE = 20, 64


def reference(ds):
    item = Dataset()
    item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = ds.SOPClassUID, ds.SOPInstanceUID
    return item


def ct_series(source, planter, study):
    """The real slices with the patient's identifiers; each refers to the first, and the first to one of another study."""
    along = sorted((pydicom.dcmread(p) for p in source.iterdir()), key=lambda ds: float(ds.ImagePositionPatient[2]))
    series, slices = planter.new_series("CT", 3), along[40:40 + SLICES]
    for number, ds in enumerate(slices):
        planter.put(ds, study, series, f"CT {number}", True)
        ds.SOPInstanceUID = planter.uid(f"CT {number}")
        ds.FrameOfReferenceUID, ds.InstanceNumber = planter.frame, number + 1
        item = reference(slices[0])
        if number == 0:
            item.ReferencedSOPInstanceUID = planter.uid("an image elsewhere")
        item.PurposeOfReferenceCodeSequence = Sequence([code("121311", "DCM", "Localizer")])
        ds.ReferencedImageSequence = Sequence([item])
    return slices


def blank_image(planter, study, series, place, sop_class, modality, number, pixels):
    """What every image of 16 bits in the patient's frame has."""
    ds = Dataset()
    ds.SOPClassUID, ds.SOPInstanceUID, ds.Modality = sop_class, planter.uid(place), modality
    ds.Manufacturer, ds.ManufacturerModelName, ds.SoftwareVersions = "Example Works", "One", "1"
    planter.put(ds, study, series, place, True)
    ds.InstanceNumber, ds.FrameOfReferenceUID, ds.PositionReferenceIndicator = number + 1, planter.frame, ""
    ds.PatientPosition, ds.Laterality, ds.PatientWeight, ds.AcquisitionNumber = "HFS", "", 71, 1
    ds.ImagePositionPatient, ds.ImageOrientationPatient = [-90, -90, 500 + 3 * number], [1, 0, 0, 0, 1, 0]
    ds.PixelSpacing, ds.SliceThickness = [3, 3], 3
    ds.SamplesPerPixel, ds.PhotometricInterpretation, ds.BitsAllocated, ds.BitsStored, ds.HighBit = 1, "MONOCHROME2", 16, 16, 15
    ds.PixelRepresentation, (ds.Rows, ds.Columns) = 0, pixels.shape
    ds.PixelData = pixels.astype("<u2").tobytes()
    ds["PixelData"].VR = "OW"
    return ds


def pet_series(planter, study, slices):
    series = planter.new_series("PET", 4)
    made = []
    for number in range(4):
        pixels = np.clip(slices[number].pixel_array[:SIDE, :SIDE].astype(int) + 1024, 0, 4000)
        ds = blank_image(planter, study, series, f"PET {number}", "1.2.840.10008.5.1.4.1.1.128", "PT", number, pixels)
        ds.ImageType = ["ORIGINAL", "PRIMARY"]
        ds.SeriesType, ds.Units, ds.CountsSource, ds.NumberOfSlices = ["STATIC", "IMAGE"], "BQML", "EMISSION", 4
        ds.CorrectedImage, ds.DecayCorrection, ds.CollimatorType = ["DECY", "ATTN"], "START", "NONE"
        ds.RescaleIntercept, ds.RescaleSlope, ds.DecayFactor = 0, 2.5, 1.02
        ds.FrameReferenceTime, ds.ActualFrameDuration, ds.ImageIndex = 1000, 120000, number + 1
        ds.PatientSize = 1.7
        del ds.PatientPosition
        drug = Dataset()
        drug.Radiopharmaceutical, drug.RadiopharmaceuticalStartTime = "FDG", planter.text("PET drug", "TM")
        drug.RadiopharmaceuticalStartDateTime = planter.text("PET drug", "DT")
        drug.RadionuclideTotalDose, drug.RadionuclideHalfLife, drug.RadionuclidePositronFraction = 3.7e8, 6586.2, 0.967
        drug.RadionuclideCodeSequence = Sequence([code("77004003", "SCT", "^18^Fluorine")])
        drug.RadiopharmaceuticalCodeSequence = Sequence([code("35321007", "SCT", "Fluorodeoxyglucose F^18^")])
        ds.RadiopharmaceuticalInformationSequence = Sequence([drug])
        upright = code("102538003", "SCT", "recumbent")
        upright.PatientOrientationModifierCodeSequence = Sequence([code("40199007", "SCT", "supine")])
        ds.PatientOrientationCodeSequence = Sequence([upright])
        ds.PatientGantryRelationshipCodeSequence = Sequence([code("102540008", "SCT", "headfirst")])
        made.append(ds)
    return made


def mr_series(planter, study, slices):
    series = planter.new_series("MR", 5)
    made = []
    for number in range(4):
        pixels = np.clip(slices[number].pixel_array[:SIDE, -SIDE:].astype(int) + 1024, 0, 4000)
        ds = blank_image(planter, study, series, f"MR {number}", "1.2.840.10008.5.1.4.1.1.4", "MR", number, pixels)
        ds.ImageType = ["ORIGINAL", "PRIMARY", "OTHER"]
        ds.ScanningSequence, ds.SequenceVariant, ds.ScanOptions, ds.MRAcquisitionType = "GR", "SP", "FS", "3D"
        ds.RepetitionTime, ds.EchoTime, ds.EchoTrainLength, ds.FlipAngle = 8, 3, 1, 12
        ds.MagneticFieldStrength, ds.SequenceName, ds.ReceiveCoilName = 1.5, "*tfl3d1", "BODY"
        made.append(ds)
    return made


def segmentation(planter, study, slices):
    labels = np.zeros((len(slices), slices[0].Rows, slices[0].Columns), np.uint8)
    labels[4:15, 20:70, 30:80], labels[8:12, 40:60, 50:70] = 1, 2
    algorithm = hd.AlgorithmIdentificationSequence("oracle", codes.cid7162.ArtificialIntelligence, "1")
    described = [
        hd.seg.SegmentDescription(
            n + 1, name, codes.SCT.Organ, kind, hd.seg.SegmentAlgorithmTypeValues.AUTOMATIC, algorithm,
            tracking_uid=planter.uid("segment"), tracking_id=planter.text("segment: tracking id"))
        for n, (name, kind) in enumerate([("heart", codes.SCT.Heart), ("aorta", codes.SCT.Aorta)])]
    ds = hd.seg.Segmentation(
        slices, labels, "BINARY", described, planter.uid("SEG"), 6, planter.uid("SEG"), 1, "Example Works", "One", "1",
        planter.text("SEG"), content_creator_name=planter.text("SEG creator", "PN"), content_label="HEART",
        content_description=planter.text("SEG content description"))
    ds.SeriesDescription = ""
    series = planter.new_series("SEG", 6)
    series["SeriesInstanceUID"] = ds.SeriesInstanceUID
    return planter.put(ds, study, series, "SEG", False)


def structure_set(planter, study, slices):
    ds = Dataset()
    ds.SOPClassUID, ds.SOPInstanceUID, ds.Modality = "1.2.840.10008.5.1.4.1.1.481.3", planter.uid("RTSTRUCT"), "RTSTRUCT"
    ds.Manufacturer, ds.ManufacturerModelName, ds.SoftwareVersions = "Example Works", "One", "1"
    planter.put(ds, study, planter.new_series("RTSTRUCT", 7), "RTSTRUCT", False)
    del ds.ContentDate, ds.ContentTime
    ds.InstanceNumber, ds.FrameOfReferenceUID, ds.PositionReferenceIndicator = 1, planter.frame, ""
    for keyword, value in planter.values("""StructureSetLabel StructureSetName StructureSetDescription StructureSetDate
            StructureSetTime ReviewDate ReviewTime ReviewerName""".split(), "RTSTRUCT").items():
        setattr(ds, keyword, value)
    ds.ApprovalStatus = "APPROVED"
    series = Dataset()
    series.SeriesInstanceUID = slices[0].SeriesInstanceUID
    series.ContourImageSequence = Sequence([reference(s) for s in slices])
    of = Dataset()
    of.ReferencedSOPClassUID, of.ReferencedSOPInstanceUID = "1.2.840.10008.3.1.2.3.1", study["StudyInstanceUID"]
    of.RTReferencedSeriesSequence = Sequence([series])
    frame = Dataset()
    frame.FrameOfReferenceUID, frame.RTReferencedStudySequence = planter.frame, Sequence([of])
    ds.ReferencedFrameOfReferenceSequence = Sequence([frame])
    ds.StructureSetROISequence, ds.ROIContourSequence, ds.RTROIObservationsSequence = Sequence(), Sequence(), Sequence()
    for number in (1, 2):
        roi = planter.item("ROIName ROIDescription", f"ROI {number}")
        roi.ROINumber, roi.ReferencedFrameOfReferenceUID, roi.ROIGenerationAlgorithm = number, planter.frame, "MANUAL"
        ds.StructureSetROISequence.append(roi)
        contours = Dataset()
        contours.ReferencedROINumber, contours.ROIDisplayColor, contours.ContourSequence = number, [255, 0, 0], Sequence()
        for on in slices[5:9]:
            x, y, z = map(float, on.ImagePositionPatient)
            contour = Dataset()
            contour.ContourImageSequence = Sequence([reference(on)])
            contour.ContourGeometricType, contour.NumberOfContourPoints = "CLOSED_PLANAR", 4
            contour.ContourData = [f"{v:.2f}" for dx, dy in ((9, 9), (90, 9), (90, 90), (9, 90)) for v in (x + dx, y + dy, z)]
            contours.ContourSequence.append(contour)
        ds.ROIContourSequence.append(contours)
        seen = planter.item("ROIObservationLabel ROIObservationDescription ROIInterpreter", f"ROI observation {number}")
        seen.ObservationNumber, seen.ReferencedROINumber, seen.RTROIInterpretedType = number, number, "ORGAN"
        ds.RTROIObservationsSequence.append(seen)
    return ds


def report(planter, study, slices, seg):
    """A TID 1500 report: a person and a device as observers, one measured segment, one measured region, comments."""
    sr = hd.sr
    person = sr.ObserverContext(codes.DCM.Person, sr.PersonObserverIdentifyingAttributes(
        planter.text("SR observer", "PN"), login_name=planter.text("SR login"), organization_name=planter.text("SR organisation")))
    device = sr.ObserverContext(codes.DCM.Device, sr.DeviceObserverIdentifyingAttributes(
        planter.uid("SR device"), name=planter.text("SR device name"), serial_number=planter.text("SR device serial"),
        physical_location=planter.text("SR device location")))
    context = sr.ObservationContext(observer_person_context=person, observer_device_context=device)
    volume = sr.Measurement(codes.SCT.Volume, 12.5, codes.UCUM.CubicMillimeter)
    segment = sr.ReferencedSegment(
        seg.SOPClassUID, seg.SOPInstanceUID, 1,
        source_images=[sr.SourceImageForSegmentation(s.SOPClassUID, s.SOPInstanceUID) for s in slices[4:15]])
    region = sr.ImageRegion("POLYLINE", np.array([[9.0, 9.0], [30.0, 9.0], [30.0, 30.0], [9.0, 9.0]]),
                            sr.SourceImageForRegion(slices[6].SOPClassUID, slices[6].SOPInstanceUID))
    groups = [
        sr.VolumetricROIMeasurementsAndQualitativeEvaluations(
            sr.TrackingIdentifier(planter.uid("SR tracking"), planter.text("SR tracking id")), referenced_segment=segment,
            finding_type=codes.SCT.Organ, measurements=[volume]),
        sr.PlanarROIMeasurementsAndQualitativeEvaluations(
            sr.TrackingIdentifier(planter.uid("SR tracking"), planter.text("SR tracking id")), referenced_region=region,
            finding_type=codes.SCT.Organ, measurements=[sr.Measurement(codes.SCT.Area, 7.25, codes.UCUM.SquareMillimeter)]),
    ]
    content = sr.MeasurementReport(context, codes.LN.CTUnspecifiedBodyRegion, groups, title=codes.DCM.ImagingMeasurementReport)
    more = [
        sr.TextContentItem(codes.DCM.Comment, planter.text("SR text", "UT"), relationship_type="CONTAINS"),
        sr.PnameContentItem(codes.DCM.PersonObserverName, planter.text("SR person name", "PN"), "HAS OBS CONTEXT"),
        sr.DateContentItem(codes.DCM.StudyDate, planter.text("SR date", "DA"), "HAS OBS CONTEXT"),
        sr.UIDRefContentItem(codes.DCM.StudyInstanceUID, study["StudyInstanceUID"], "HAS OBS CONTEXT"),
    ]
    content[0].ContentSequence.extend(more)
    ds = sr.Comprehensive3DSR(
        [*slices, seg], content[0], planter.uid("SR"), 8, planter.uid("SR"), 1, "Example Works", is_complete=True, is_final=True,
        is_verified=True, verifying_observer_name=planter.text("SR verifier", "PN"),
        verifying_organization=planter.text("SR verifying organisation"))
    series = planter.new_series("SR", 8)
    series["SeriesInstanceUID"] = ds.SeriesInstanceUID
    planter.put(ds, study, series, "SR", False)
    ds.AuthorObserverSequence = Sequence([planter.item("PersonName InstitutionName", "SR author")])
    ds.AuthorObserverSequence[0].ObserverType, ds.AuthorObserverSequence[0].InstitutionCodeSequence = "PSN", Sequence()
    ds.AuthorObserverSequence[0].PersonIdentificationCodeSequence = Sequence([code("1", "99X", planter.text("SR author code"))])
    return ds


def presentation(planter, study, slices):
    layer = hd.pr.GraphicLayer("LAYER1", order=1, description=planter.text("layer description"))
    annotation = hd.pr.GraphicAnnotation(
        [slices[3]], layer,
        graphic_objects=[hd.pr.GraphicObject("POLYLINE", np.array([[10.0, 10.0], [50.0, 50.0]]), "PIXEL")],
        text_objects=[hd.pr.TextObject(planter.text("graphic annotation"), "PIXEL", anchor_point=(20.0, 20.0))])
    ds = hd.pr.GrayscaleSoftcopyPresentationState(
        slices[:6], planter.uid("PR"), 9, planter.uid("PR"), 1, "Example Works", "One", "1", planter.text("PR"), "LABEL",
        content_description=planter.text("PR content description"), graphic_annotations=[annotation], graphic_layers=[layer],
        content_creator_name=planter.text("PR creator", "PN"))
    ds.PresentationCreationDate, ds.PresentationCreationTime = planter.text("PR", "DA"), planter.text("PR", "TM")
    series = planter.new_series("PR", 9)
    series["SeriesInstanceUID"] = ds.SeriesInstanceUID
    planter.put(ds, study, series, "PR", False)
    del ds.ContentDate, ds.ContentTime
    ds.Laterality = ""
    return ds


def key_objects(planter, study, slices):
    content = hd.ko.KeyObjectSelection(codes.DCM.OfInterest, [slices[2], slices[9]], description=planter.text("KO description"))
    ds = hd.ko.KeyObjectSelectionDocument([slices[2], slices[9]], content, planter.uid("KO"), 10, planter.uid("KO"), 1,
                                          "Example Works")
    series = planter.new_series("KO", 10)
    series["SeriesInstanceUID"] = ds.SeriesInstanceUID
    planter.put(ds, study, series, "KO", False)
    return ds


def enhanced(planter, study, slices):
    plain = [copy.deepcopy(s) for s in slices]
    ds = hd.legacy.LegacyConvertedEnhancedCTImage(plain, planter.uid("enhanced"), 11, planter.uid("enhanced"), 1,
                                                  contributing_equipment=None)
    series = planter.new_series("enhanced", 11)
    series["SeriesInstanceUID"] = ds.SeriesInstanceUID
    evidence, of = Dataset(), Dataset()
    of.SeriesInstanceUID, of.ReferencedSOPSequence = slices[0].SeriesInstanceUID, Sequence([reference(s) for s in slices])
    evidence.StudyInstanceUID, evidence.ReferencedSeriesSequence = study["StudyInstanceUID"], Sequence([of])
    ds.ReferencedImageEvidenceSequence, ds.Laterality = Sequence([evidence]), ""
    return planter.put(ds, study, series, "enhanced", True)


def drawn(text, width, height):
    """Text in pixels of 0 and 255."""
    image = Image.new("L", (width, height), 0)
    ImageDraw.Draw(image).text((6, 6), text, fill=255)
    return np.asarray(image)


def capture(planter, place, sop_class, modality, pixels, number):
    """A colour or grey image of 8 bits without a frame of reference, a study of its own."""
    study, series = planter.new_study(place), planter.new_series(place, number)
    ds = Dataset()
    ds.SOPClassUID, ds.SOPInstanceUID, ds.Modality = sop_class, planter.uid(place), modality
    ds.Manufacturer, ds.ManufacturerModelName = "Example Works", "One"
    planter.put(ds, study, series, place, False)
    ds.InstanceNumber, ds.PatientOrientation, ds.Laterality = 1, "", ""
    ds.Rows, ds.Columns = pixels.shape[:2]
    ds.SamplesPerPixel = 3 if pixels.ndim == 3 else 1
    ds.PhotometricInterpretation = "RGB" if pixels.ndim == 3 else "MONOCHROME2"
    if pixels.ndim == 3:
        ds.PlanarConfiguration = 0
    ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 8, 8, 7, 0
    ds.PixelData = pixels.astype(np.uint8).tobytes()
    ds["PixelData"].VR = "OB"
    return ds


def apart(planter, out, slices):
    """The objects that must not pass as they are; folder, and what may be blanked where."""
    tissue = np.clip((slices[0].pixel_array.astype(int) + 1024) // 8, 0, 255)
    ds = capture(planter, "secondary-capture", "1.2.840.10008.5.1.4.1.1.7", "OT", np.maximum(drawn(
        planter.patient["PatientName"], tissue.shape[1], tissue.shape[0]), tissue), 20)
    ds.ConversionType = "WSD"
    save(ds, out / "secondary-capture" / "SC1", planter, "secondary-capture")
    pixels = np.zeros((240, 320, 3), np.uint8)
    pixels[40:40 + 102, 40:40 + 122] = tissue[..., None]
    pixels[0:40] = drawn(planter.patient["PatientName"] + " " + planter.patient["PatientID"], 320, 40)[..., None]
    ds = capture(planter, "ultrasound", "1.2.840.10008.5.1.4.1.1.6.1", "US", pixels, 21)
    ds.ImageType = ["ORIGINAL", "PRIMARY", "ABDOMINAL", "0001"]
    region = Dataset()
    region.RegionSpatialFormat, region.RegionDataType, region.RegionFlags = 1, 1, 0
    region.RegionLocationMinX0, region.RegionLocationMinY0, region.RegionLocationMaxX1, region.RegionLocationMaxY1 = 0, 40, 319, 239
    region.PhysicalUnitsXDirection = region.PhysicalUnitsYDirection = 3
    region.PhysicalDeltaX = region.PhysicalDeltaY = 0.05
    ds.SequenceOfUltrasoundRegions = Sequence([region])
    save(ds, out / "ultrasound" / "US1", planter, "ultrasound")
    ds = copy.deepcopy(slices[1])
    planter.put(ds, planter.new_study("burned-in"), planter.new_series("burned-in", 22), "burned-in", True)
    ds.SOPInstanceUID, ds.BurnedInAnnotation = planter.uid("burned-in"), "YES"
    ds.FrameOfReferenceUID = planter.uid("burned-in frame of reference")
    save(ds, out / "burned-in" / "CT1", planter, "burned-in")
    ds = Dataset()
    ds.SOPClassUID, ds.SOPInstanceUID, ds.Modality = "1.2.840.10008.5.1.4.1.1.104.1", planter.uid("pdf"), "DOC"
    ds.Manufacturer = "Example Works"
    planter.put(ds, planter.new_study("pdf"), planter.new_series("pdf", 23), "pdf", False)
    ds.AcquisitionDateTime, ds.InstanceNumber, ds.ConversionType = "", 1, "WSD"
    ds.BurnedInAnnotation, ds.DocumentTitle = "YES", planter.text("pdf title", "ST")
    ds.ConceptNameCodeSequence, ds.MIMETypeOfEncapsulatedDocument = Sequence(), "application/pdf"
    text = f"%PDF-1.4\n% {planter.text('pdf content')}\n%%EOF\n".encode()
    ds.EncapsulatedDocument = text + b"\0" * (len(text) % 2)
    save(ds, out / "pdf" / "PDF1", planter, "pdf")


def file_set(planter, study, out):
    made = FileSet()
    made.ID = planter.text("file-set ID", "AE")
    for path in sorted(study.iterdir()):
        made.add(path)
    made.write(out)


def main():
    source, out = Path(sys.argv[1]), Path(sys.argv[2])
    number = int(sys.argv[3]) if len(sys.argv) > 3 else 1
    planter = Planter(number)
    study = planter.new_study("study")
    slices = ct_series(source, planter, study)
    seg = segmentation(planter, study, slices)
    made = {f"CT{n + 1:03}": ds for n, ds in enumerate(slices)}
    made |= {"SEG1": seg, "RTSTRUCT1": structure_set(planter, study, slices), "SR1": report(planter, study, slices, seg)}
    made |= {f"PT{n + 1:03}": ds for n, ds in enumerate(pet_series(planter, study, slices))}
    made |= {f"MR{n + 1:03}": ds for n, ds in enumerate(mr_series(planter, study, slices))}
    made |= {"PR1": presentation(planter, study, slices), "KO1": key_objects(planter, study, slices),
             "CTE1": enhanced(planter, study, slices)}
    for name, ds in made.items():
        save(ds, out / "study" / name, planter, name)
    apart(planter, out / "apart", slices)
    file_set(planter, out / "study", out / "dicomdir")
    lost = missing(out, planter.canaries.log)
    # What stands only where another value was put over it is no canary.
    canaries = [c for c in planter.canaries.log if c not in lost]
    for name in ("study", "dicomdir"):
        write_key(out / f"{name}.key.json", out / name, canaries)
    for folder in sorted((out / "apart").iterdir()):
        write_key(out / f"{folder.name}.key.json", folder, canaries)
    print(f"{out}: {len(made)} instances, {len(canaries)} identifiers, {len(lost)} made and not used: {[c[1] for c in lost]}")


if __name__ == "__main__":
    main()
