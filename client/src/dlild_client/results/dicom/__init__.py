"""DICOM objects of a result: SEG, SR, Secondary Capture and Encapsulated PDF.

They need the extra ``dlild-client[dicom]``, which is imported at first use, and the headers of the
scored series (`SourceSeries`), which `read_volume(path, with_source=True)` keeps beside the volume.

===============  ===================================================================
`source`         headers of the scored series
`uids`           derived UIDs: the same scan and model give the same objects
`codes`          coded concepts, standard ones and those of 99DLILD
`segmentation`   DICOM SEG on the scanned slices
`report`         DICOM SR, TID 1500
`change`         DICOM SR of a comparison
`content`        content items that both share
`capture`        Secondary Capture and Encapsulated PDF of the summary page
`identity`       what `anonymous` strips
`common`         equipment, algorithm, data sets of the source
`extra`          import of highdicom
`objects`        all objects of a result
`verify`         checks of objects against their documents
===============  ===================================================================
"""
