"""Archives: scans from a PACS and results back to it, over DICOMweb and as a DICOM node.

`addresses` parses addresses, `dicomweb` retrieves and stores over HTTP, `scan` hands a scan of
either kind to the readers. The libraries are extras, imported at their first use: ``[dicomweb]``
for DICOMweb, ``[node]`` for `dlild listen`.
"""
