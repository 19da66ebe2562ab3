"""The result of a scan: what it holds (`result.py`), and how it is written and drawn.

`files.py` writes `result.json`, `labels.nii.gz` and `overlay.png`; `nifti.py` encodes a volume as
NIfTI-1, `overlay.py` renders the picture.
"""
