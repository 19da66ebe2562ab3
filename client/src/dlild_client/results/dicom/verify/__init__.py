"""Verifies DICOM objects against the documents that they were made of.

All that an object says must follow from `result.json` or `comparison.json`.

===============  ===================================================================
`objects`        the objects of a folder; capture and PDF
`segmentation`   SEG against classes and label map
`report`         SR of a result or a comparison: its content is made again
`attributes`     what all objects have: header, pixels, codes
===============  ===================================================================
"""
