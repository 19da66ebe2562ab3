"""Refuses to build where VERSION is missing: setuptools would call the distribution 0.0.0."""

from pathlib import Path

from setuptools import setup

VERSION = Path(__file__).with_name("VERSION")
if not VERSION.is_file():
    raise SystemExit(
        f"{VERSION}: not there, or a link that leads nowhere; build from a checkout, or copy the "
        "folder with what its links lead to (cp --recursive --dereference)"
    )
setup()
