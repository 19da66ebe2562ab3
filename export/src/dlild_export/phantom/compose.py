"""A whole phantom: a patient with known lesions, scanned."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy import ndimage

from dlild_client.contract.classes import Label
from dlild_client.contract.score import dl_ild_percent
from dlild_export.data.crop import box_of
from dlild_export.phantom.acquisition import acquire
from dlild_export.phantom.anatomy.body import build_body, find_landmarks
from dlild_export.phantom.anatomy.lungs import frame_lungs, make_lungs
from dlild_export.phantom.anatomy.parenchyma import healthy_lung
from dlild_export.phantom.fields import Array, Mask
from dlild_export.phantom.lesions.patterns import Labels, paint_lesions, place_lesions
from dlild_export.phantom.spec import Acquisition, PhantomSpec


@dataclass(frozen=True)
class Patient:
    """A phantom's body before any scanner has seen it.

    Attributes
    ----------
    hu : ndarray of float32, shape (z, y, x)
        The body, without noise or blur; feet to head, front to back, right to left.
    labels : ndarray of uint8, shape (z, y, x)
        Class of every voxel, as the contract numbers them.
    spacing_mm : float
        Edge of a voxel.
    spec : PhantomSpec
        What it was made from.
    """

    hu: Array
    labels: Labels
    spacing_mm: float
    spec: PhantomSpec


@dataclass(frozen=True)
class Phantom:
    """A scanned phantom on its grid, with exact truth.

    Attributes
    ----------
    hu : ndarray of int16, shape (z, y, x)
        The scan; feet to head, front to back, right to left.
    labels : ndarray of uint8, shape (z, y, x)
        Class of every voxel, as the contract numbers them.
    spacing_mm : float
        Edge of a voxel.
    spec : PhantomSpec
        What it was made from.
    """

    hu: np.ndarray
    labels: Labels
    spacing_mm: float
    spec: PhantomSpec

    @property
    def dl_ild_percent(self) -> float:
        """True DL-ILD: 100 times lesion voxels over lung voxels."""
        lesion, lung = self.labels > Label.LUNG, self.labels >= Label.LUNG
        return dl_ild_percent(np.count_nonzero(lesion), np.count_nonzero(lung))

    @property
    def lung_volume_ml(self) -> float:
        """True volume of the lungs, lesions included."""
        return float((self.labels >= Label.LUNG).sum()) * self.spacing_mm**3 / 1000.0

    def volume_ml(self, label: int) -> float:
        """Return the true volume of one class."""
        return float((self.labels == label).sum()) * self.spacing_mm**3 / 1000.0


def make_phantom(
    spec: PhantomSpec, *, spacing_mm: float = 1.5, lung_mask: Path | None = None
) -> Phantom:
    """Make a phantom patient and scan it.

    Parameters
    ----------
    spec : PhantomSpec
        Patient, disease and acquisition.
    spacing_mm : float
        Edge of a voxel of the grid.
    lung_mask : pathlib.Path, optional
        Mask of real lungs to take the shape from; built from curves when left out.

    Returns
    -------
    Phantom
        The same for the same arguments.
    """
    return scan_patient(make_patient(spec, spacing_mm=spacing_mm, lung_mask=lung_mask))


def make_patient(
    spec: PhantomSpec, *, spacing_mm: float = 1.5, lung_mask: Path | None = None
) -> Patient:
    """Make a phantom patient; the acquisition in `spec` changes nothing here.

    Parameters
    ----------
    spec, spacing_mm, lung_mask
        As in `make_phantom`.

    Returns
    -------
    Patient
    """
    rng = np.random.default_rng([spec.seed, 0])
    lungs = make_lungs(lung_mask, spacing_mm, rng)
    marks = find_landmarks(lungs, spacing_mm)
    hu = build_body(lungs, spacing_mm, spec.blood_hu, marks, rng)

    box = box_of(lungs, margin=4)
    frame = frame_lungs(lungs[box], spacing_mm)
    offset = np.array([side.start for side in box]) * spacing_mm
    labels_in_box = place_lesions(frame, spec.pattern, spec.severity, rng)
    lung_hu, lumens = healthy_lung(frame, spec, [hilum - offset for hilum in marks.hila], rng)
    lung_hu = paint_lesions(lung_hu, lumens, labels_in_box, frame, rng)

    insert_lung(hu, lung_hu, frame.lungs, box, blur_voxels=0.55)
    return Patient(hu, on_grid(labels_in_box, lungs.shape, box), spacing_mm, spec)


def insert_lung(
    hu: Array, lung_hu: Array, lungs: Mask, box: tuple[slice, ...], *, blur_voxels: float
) -> None:
    """Blend lung into a body, in place: its rim is as soft as the mask blurred.

    Parameters
    ----------
    hu : ndarray of float32, shape (z, y, x)
        The body.
    lung_hu : ndarray of float32
        The lung; in `box`.
    lungs : ndarray of bool
        Where it lies; in `box`.
    box : tuple of slice
        Round the lungs.
    blur_voxels : float
        Standard deviation of the blur.
    """
    weight: Array = ndimage.gaussian_filter(lungs.astype(np.float32), blur_voxels)
    hu[box] += weight * (lung_hu - hu[box])


def on_grid(labels: Labels, shape: tuple[int, ...], box: tuple[slice, ...]) -> Labels:
    """Return labels of the whole grid from those in `box`; 0 outside."""
    whole = np.zeros(shape, np.uint8)
    whole[box] = labels
    return whole


def scan_patient(patient: Patient, acquisition: Acquisition | None = None) -> Phantom:
    """Scan a patient, once or again.

    Parameters
    ----------
    patient : Patient
        Stays as it is.
    acquisition : Acquisition, optional
        Scanner, position and breath; those of the patient's spec when left out.

    Returns
    -------
    Phantom
        Its truth moves and breathes with the patient.
    """
    chosen = acquisition or patient.spec.acquisition
    hu, labels = _breathe(patient, chosen.inspiration)
    hu, labels = _move(hu, labels, np.array(chosen.shift_mm) / patient.spacing_mm)
    scanned = acquire(hu, labels >= Label.LUNG, chosen, patient.spacing_mm)
    whole = np.clip(np.rint(scanned), -1024, 2047).astype(np.int16)
    return Phantom(whole, labels, patient.spacing_mm, patient.spec)


def _breathe(patient: Patient, inspiration: float) -> tuple[Array, Labels]:
    """Lengthen or shorten the chest; the lungs keep their mass, so their density follows."""
    if inspiration == 1.0:
        return patient.hu, patient.labels
    count = round(patient.hu.shape[0] * inspiration)
    z = (np.arange(count) + 0.5) / inspiration - 0.5
    hu = _sample_z(patient.hu, z)
    labels = patient.labels[np.clip(np.rint(z), 0, patient.hu.shape[0] - 1).astype(np.intp)]
    lung: Mask = labels == Label.LUNG
    hu[lung] = np.maximum((hu[lung] + 1000) / inspiration - 1000, -1024)
    return hu, labels


def _sample_z(hu: Array, z: np.ndarray) -> Array:
    below = np.clip(np.floor(z), 0, hu.shape[0] - 2).astype(np.intp)
    weight = np.clip(z - below, 0, 1).astype(np.float32)[:, None, None]
    between: Array = hu[below] + weight * (hu[below + 1] - hu[below])
    return between


def _move(hu: Array, labels: Labels, voxels: np.ndarray) -> tuple[Array, Labels]:
    """Move patient and truth by part of a voxel or by several; air comes in at the edges."""
    if not voxels.any():
        return hu, labels
    moved: Array = ndimage.shift(hu, voxels, order=1, mode="nearest")
    truth: Labels = ndimage.shift(labels, voxels, order=0, mode="nearest")
    return moved, truth
