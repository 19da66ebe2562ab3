"""Readers: from a path to a volume in HU, or an error that says what is wrong with the files.

`read.py` is the entry point for all formats, `survey.py` lists the series without reading voxels.
`files.py` lists the files behind a path; `dicom/` reads headers and pixels, `series/` groups the
slices and selects a series, `assemble.py` builds its volume. `images/` reads NIfTI, NRRD and
MetaImage. `quality.py` checks the voxels of either.
"""
