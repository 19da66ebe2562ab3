"""Header of one slice, without its pixels."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from dlild_client.reading.sources import Source

NATIVE = {
    "", "1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.1.99", "1.2.840.10008.1.2.2",
}  # fmt: skip
"""Not compressed: implicit and explicit little endian, deflated (once inflated), big endian."""


@dataclass(frozen=True)
class PixelFormat:
    """Pixel format of a file, and offset of its pixels.

    Attributes
    ----------
    rows, columns, frames, samples : int
    photometric : str
    bits_allocated, bits_stored, high_bit : int
    signed : bool
    sign_known : bool
        Whether the header states PixelRepresentation.
    transfer_syntax : str
        Its UID; empty where missing.
    offset : int or None
        Offset of the pixel data element; None without pixel data.
    """

    rows: int
    columns: int
    frames: int
    samples: int
    photometric: str
    bits_allocated: int
    bits_stored: int
    high_bit: int
    signed: bool
    sign_known: bool
    transfer_syntax: str
    offset: int | None

    @property
    def compressed(self) -> bool:
        """Whether each frame is a compressed stream."""
        return self.transfer_syntax not in NATIVE


@dataclass(frozen=True)
class SliceHeader:
    """Attributes of one slice; None where missing or malformed.

    A multi-frame file has one slice per frame. `breath` and `posture` are those of
    `dlild_client.reading.dicom.protocol`, `repaired` and `unreadable` those of
    `dlild_client.reading.dicom.values.Numbers`. `instance` and `series` are digests, to group by;
    `instance_uid` and `series_uid` the UIDs themselves, to refer to.
    """

    source: Source
    frame: int
    sop_class: str
    instance: str
    instance_uid: str = field(repr=False)
    image_type: tuple[str, ...]
    modality: str
    manufacturer: str | None
    study: str
    series: str
    series_uid: str = field(repr=False)
    series_number: int | None
    instance_number: int | None
    acquisition: int | None
    temporal_position: int | None
    stack_id: str
    frame_of_reference: str
    body_part: str
    contrast_agent: bool
    kernel: str | None
    slice_thickness_mm: float | None
    position: tuple[float, ...] | None
    orientation: tuple[float, ...] | None
    pixel_spacing: tuple[float, ...] | None
    pixels: PixelFormat
    slope: float | None
    intercept: float | None
    rescale_type: str
    padding: int | None
    padding_limit: int | None
    lossy: bool
    breath: str = ""
    posture: str = ""
    repaired: Mapping[str, str] = field(default_factory=dict)
    unreadable: Mapping[str, str] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """Base name of the file, with the frame number where it has several."""
        frame = f" frame {self.frame + 1}" if self.pixels.frames > 1 else ""
        return f"{self.source.name}{frame}"

    @property
    def has_pixels(self) -> bool:
        """Whether there are pixels to decode."""
        p = self.pixels
        return p.offset is not None and bool(p.rows and p.columns and p.bits_allocated)
