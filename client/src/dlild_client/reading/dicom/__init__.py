"""What stands in a DICOM file: its header, leniently, and its pixels in HU, strictly."""
