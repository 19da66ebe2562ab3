"""Phantoms: made-up chest CT scans whose lesions are known exactly."""

from dlild_export.phantom.compose import Patient, Phantom, make_patient, make_phantom, scan_patient
from dlild_export.phantom.plant import plant_lesions
from dlild_export.phantom.spec import Acquisition, Pattern, PhantomSpec, random_spec

__all__ = [
    "Acquisition",
    "Patient",
    "Pattern",
    "Phantom",
    "PhantomSpec",
    "make_patient",
    "make_phantom",
    "plant_lesions",
    "random_spec",
    "scan_patient",
]
