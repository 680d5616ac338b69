"""The pipeline that bench_nnunet.py and prove_totalsegmentator.py run: one image, its labels as NIfTI."""


def pipeline(path, source, params):
    """Writes it to `path`, whose name it gets: `source` is dicom-read or nifti-read, `params` are those of nnunet-segmenter."""
    path.write_text(f"""format = 1
name = "{path.stem}"
[nodes.image]
stage = "{source}"
params = {{ modality = "CT", quantity = "hu" }}
[nodes.segment]
stage = "nnunet-segmenter"
from = "image"
params = {{ {params} }}
[nodes.write]
stage = "nifti-write"
from = "segment.labels"
params = {{ name = "labels" }}
""")
    return path
