"""Volumes that come as an image file: NIfTI, NRRD, MetaImage."""
