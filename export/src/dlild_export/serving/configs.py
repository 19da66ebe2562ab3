"""Render every Triton configuration from ``model_repository/contract.json``.

The contract is written by hand; the configurations never are. For each model there is one
``configs/<profile>.pbtxt`` a profile, and ``config.pbtxt``, which Triton takes when no profile is
named (or, in silence, when the named one is missing): it holds the embedded profile.

Run ``python -m dlild_export.serving.configs`` after a change of the contract, and with ``--check``
to learn whether anything drifted.
"""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from dlild_export.serving.config_text import (
    HEADER,
    Contract,
    accumulator_text,
    check_versions,
    ensemble_text,
    unet_text,
    volume_text,
)

SCHEMA_VERSION = 1
DEFAULT_PROFILE = "embedded"
MODELS = ("dlild", "dlild_accumulator", "dlild_volume", "ild_unet")


def render_all(contract: Contract) -> dict[str, str]:
    """Render the configurations of all models for all profiles.

    Parameters
    ----------
    contract : Mapping
        The content of ``contract.json``.

    Returns
    -------
    dict of str to str
        Text by path relative to the model repository.

    Raises
    ------
    ValueError
        When the contract has another schema version, lacks the embedded profile, names an engine
        that no model can run on, or names versions that do not add up.
    """
    if contract["schema_version"] != SCHEMA_VERSION:
        raise ValueError(
            f"contract.json has schema version {contract['schema_version']}, "
            f"this renderer understands {SCHEMA_VERSION}"
        )
    if DEFAULT_PROFILE not in contract["profiles"]:
        raise ValueError(f"contract.json names no profile {DEFAULT_PROFILE!r}")
    check_versions(contract["model"])
    renderers = {
        "dlild": ensemble_text,
        "dlild_accumulator": accumulator_text,
        "dlild_volume": volume_text,
        "ild_unet": unet_text,
    }
    texts: dict[str, str] = {}
    for model in MODELS:
        for profile in contract["profiles"]:
            text = HEADER.format(profile=profile) + renderers[model](contract, profile)
            texts[f"{model}/configs/{profile}.pbtxt"] = text
            if profile == DEFAULT_PROFILE:
                texts[f"{model}/config.pbtxt"] = text
    return texts


def write_configs(repository: Path) -> list[str]:
    """Write what differs, remove what no profile has, and name both.

    Parameters
    ----------
    repository : Path
        The folder that holds ``contract.json``.

    Returns
    -------
    list of str
        The paths written or removed, relative to the repository.
    """
    texts = render_all(read_contract(repository))
    changed = drift(repository)
    for name in changed:
        path = repository / name
        if name in texts:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(texts[name], encoding="utf-8")
        else:
            path.unlink()
    return changed


def drift(repository: Path) -> list[str]:
    """Name the configurations that are missing, stale, or of a profile that is no more.

    Parameters
    ----------
    repository : Path
        The folder that holds ``contract.json``.

    Returns
    -------
    list of str
        Sorted paths relative to the repository; empty when all is as the contract says.
    """
    texts = render_all(read_contract(repository))
    stale = {name for name, text in texts.items() if _read(repository / name) != text}
    present = {
        path.relative_to(repository).as_posix()
        for model in MODELS  # others, such as a progression model, are not the contract's
        for path in (repository / model / "configs").glob("*.pbtxt")
    }
    return sorted(stale | (present - texts.keys()))


def read_contract(repository: Path) -> dict[str, Any]:
    """Read ``contract.json``.

    Parameters
    ----------
    repository : Path
        The model repository.

    Returns
    -------
    dict
        The contract.
    """
    contract: dict[str, Any] = json.loads((repository / "contract.json").read_text("utf-8"))
    return contract


def _read(path: Path) -> str | None:
    return path.read_text("utf-8") if path.is_file() else None


def main(arguments: list[str] | None = None) -> int:
    """Write the configurations, or check them.

    Parameters
    ----------
    arguments : list of str, optional
        The command line without the program's name; ``sys.argv`` when left out.

    Returns
    -------
    int
        0 when done, 1 when ``--check`` found drift or the contract cannot be rendered.
    """
    parser = argparse.ArgumentParser(description="Render config.pbtxt files from the contract.")
    parser.add_argument("--check", action="store_true", help="change nothing, exit 1 on drift")
    parser.add_argument("--repository", type=Path, default=Path("model_repository"))
    options = parser.parse_args(arguments)
    try:
        names = drift(options.repository) if options.check else write_configs(options.repository)
    except (OSError, ValueError, KeyError) as error:
        print(f"{options.repository / 'contract.json'}: {error}", file=sys.stderr)
        return 1
    for name in names:
        print(f"{'differs' if options.check else 'changed'}: {options.repository / name}")
    if options.check and names:
        print("run `make configs` and commit what changes", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
