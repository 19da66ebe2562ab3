"""Readers: label maps held against what people outlined or estimated on the same slices.

A study names, for each scan, its label map (or the scan, to be scored) and what one or several
readers said: outlines, label images, DICOM SEG, or extents in percent. Only slices that were read
count. `dlild_export.readers.study` describes the files.
"""

from dlild_export.readers.compare import Comparison, compare_study
from dlild_export.readers.report import write_reading_report
from dlild_export.readers.study import Study, read_study

__all__ = ["Comparison", "Study", "compare_study", "read_study", "write_reading_report"]
