"""UIDs and digests of the objects of a result, derived from what they are made of.

The same scan, scored by the same weights, gives the same UIDs: an archive that receives its results
twice holds them once. UIDs are of the form 2.25.N (PS3.5 B.2), where N is 128 bits of a digest.
"""

from __future__ import annotations

import hashlib

from dlild_client.results.result import Result
from dlild_client.source import SourceSeries

LAYOUT = 1
"""Version of the contents of the objects: another layout is another object, with other UIDs."""


def derive_uid(*parts: str) -> str:
    """Derive a UID from texts; the same texts give the same UID."""
    digest = hashlib.sha256("\n".join(parts).encode()).digest()
    return f"2.25.{int.from_bytes(digest[:16], 'big')}"


def result_uid(result: Result, source: SourceSeries, *parts: str) -> str:
    """Derive a UID of an object of a result.

    Parameters
    ----------
    result : Result
        Its scan (digest of the voxels) and weights count, not the engine, and not the time.
    source : SourceSeries
        Its slices count: two copies of a series, such as one without identity, have objects of
        their own.
    *parts : str
        What the object is.
    """
    return object_uid(result.series.digest or "", result.model.weights_digest, source, *parts)


def object_uid(scan_digest: str, weights_digest: str, source: SourceSeries, *parts: str) -> str:
    """Derive a UID as `result_uid` does, of a result that only its document is left of."""
    return derive_uid(
        f"DL-ILD layout {LAYOUT}",
        scan_digest,
        weights_digest,
        *slice_names(source),
        *parts,
    )


def slice_names(source: SourceSeries) -> list[str]:
    """Name each slice of a series by object and frame."""
    return [f"{s.sop_instance} {s.frame or 1}" for s in source.slices]


def pixels_digest(pixels: bytes) -> str:
    """Digest of the pixels of an object, as they are stored."""
    return f"sha256:{hashlib.sha256(pixels).hexdigest()}"
