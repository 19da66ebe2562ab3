"""A path in, a volume in HU out, or an error that says what is wrong with the files.

`places.py` lists the files behind a path; `dicom` reads what stands in them, `series` decides
which of them belong together and which series is scored, `assemble.py` makes the volume of it;
`images` does the same for NIfTI, NRRD and MetaImage; `read.py` is the door to both, and
`survey.py` only looks.
"""
