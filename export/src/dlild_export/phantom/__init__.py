"""Phantoms: made-up chest CT scans whose lesions are known exactly."""

from dlild_export.phantom.compose import Phantom, make_phantom
from dlild_export.phantom.spec import Pattern, PhantomSpec, random_spec

__all__ = ["Pattern", "Phantom", "PhantomSpec", "make_phantom", "random_spec"]
