"""Render what is made from the documents of a model repository, and from the client's contract.

``contract.json``, ``limits.json`` and ``releases.json`` are written by hand or by a release; the
configurations never are. For each model there is one ``configs/<profile>.pbtxt`` a profile, and
``config.pbtxt``, which Triton takes when no profile is named (or, in silence, when the named one is
missing): it holds the embedded profile. The Python models find the modules of
`dlild_client.contract` that they use in ``contract/``, byte for byte as they are in the client, all
of them end with their server by the same ``parent_death.py``, and the network runs through the same
``stages.py`` that the gates run it through.

Run ``python -m dlild_export.serving.configs`` after a change, and with ``--check`` to learn whether
anything drifted.
"""

import argparse
import sys
from pathlib import Path

import dlild_client.contract
from dlild_client.errors import DlildError
from dlild_export.data.contracts import CONTRACT, read_contract, read_limits, read_releases
from dlild_export.serving.config_text import (
    HEADER,
    Documents,
    check_documents,
    scan_text,
    unet_text,
    volume_text,
)

DEFAULT_PROFILE = "embedded"
MODELS = ("dlild", "dlild_volume", "ild_unet")

_EVERYWHERE = ("__init__", "errors", "refusals", "schema", "tensors", "windows")
SHARED_MODULES = {
    "dlild": (*_EVERYWHERE, "blending", "labels", "score", "weights"),
    "dlild_volume": _EVERYWHERE,
    "ild_unet": (*(name for name in _EVERYWHERE if name != "tensors"), "precision", "weights"),
}
"""Modules of `dlild_client.contract` that each Python model uses."""

SERVING_MODULES = {
    "dlild": ("parent_death",),
    "dlild_volume": ("parent_death",),
    "ild_unet": ("parent_death", "stages"),
}
"""Modules of this package that each Python model uses."""


def read_documents(repository: Path) -> Documents:
    """Read the three documents of a model repository.

    Raises
    ------
    OSError, ContractError
        One is missing, or not what it should be.
    """
    return Documents(read_contract(repository), read_limits(repository), read_releases(repository))


def render_all(documents: Documents) -> dict[str, str]:
    """Render the configurations of all models for all profiles.

    Parameters
    ----------
    documents : Documents
        Of the model repository.

    Returns
    -------
    dict of str to str
        Text by path relative to the model repository.

    Raises
    ------
    ValueError
        When the contract lacks the embedded profile, names an engine that no model can run on, or
        when versions or classes do not add up.
    """
    profiles = documents.contract.profiles
    if DEFAULT_PROFILE not in profiles:
        raise ValueError(f"contract.json names no profile {DEFAULT_PROFILE!r}")
    check_documents(documents)
    renderers = {
        "dlild": scan_text,
        "dlild_volume": volume_text,
        "ild_unet": unet_text,
    }
    texts: dict[str, str] = {}
    for model in MODELS:
        for profile in profiles:
            text = HEADER.format(profile=profile) + renderers[model](documents, profile)
            texts[f"{model}/configs/{profile}.pbtxt"] = text
            if profile == DEFAULT_PROFILE:
                texts[f"{model}/config.pbtxt"] = text
    return texts


def shared_modules() -> dict[str, str]:
    """Return the text of the modules that Python models share with client, gates and each other.

    Returns
    -------
    dict of str to str
        Text by path relative to the model repository.
    """
    contract = Path(dlild_client.contract.__file__).parent
    serving = {
        f"{model}/{name}.py": Path(__file__).with_name(f"{name}.py").read_text("utf-8")
        for model, names in SERVING_MODULES.items()
        for name in names
    }
    return serving | {
        f"{model}/contract/{name}.py": (contract / f"{name}.py").read_text("utf-8")
        for model, names in SHARED_MODULES.items()
        for name in names
    }


def write_configs(repository: Path) -> list[str]:
    """Write what differs, remove what is left over, and name both.

    Parameters
    ----------
    repository : Path
        The folder that holds ``contract.json``.

    Returns
    -------
    list of str
        The paths written or removed, relative to the repository.
    """
    texts = _all_texts(repository)
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
    """Name what is missing, stale or left over: configurations, and modules of the contract.

    Parameters
    ----------
    repository : Path
        The folder that holds ``contract.json``.

    Returns
    -------
    list of str
        Sorted paths relative to the repository; empty when all is as it should be.
    """
    texts = _all_texts(repository)
    stale = {name for name, text in texts.items() if _read(repository / name) != text}
    present = {
        path.relative_to(repository).as_posix()
        for model in MODELS  # others, such as a progression model, are not the contract's
        for pattern in ("configs/*.pbtxt", "contract/*.py")
        for path in (repository / model).glob(pattern)
    }
    return sorted(stale | (present - texts.keys()))


def _all_texts(repository: Path) -> dict[str, str]:
    return render_all(read_documents(repository)) | shared_modules()


def _read(path: Path) -> str | None:
    return path.read_text("utf-8") if path.is_file() else None


def main(arguments: list[str] | None = None) -> int:
    """Write configurations and shared modules, or check them.

    Parameters
    ----------
    arguments : list of str, optional
        The command line without the program's name; ``sys.argv`` when left out.

    Returns
    -------
    int
        0 when done, 1 when ``--check`` found drift or nothing can be rendered.
    """
    parser = argparse.ArgumentParser(description="Render configurations and shared modules.")
    parser.add_argument("--check", action="store_true", help="change nothing, exit 1 on drift")
    parser.add_argument("--repository", type=Path, default=Path("model_repository"))
    options = parser.parse_args(arguments)
    try:
        names = drift(options.repository) if options.check else write_configs(options.repository)
    except (OSError, ValueError, DlildError) as error:
        print(f"{options.repository / CONTRACT}: {error}", file=sys.stderr)
        return 1
    for name in names:
        print(f"{'differs' if options.check else 'changed'}: {options.repository / name}")
    if options.check and names:
        print("run `make configs` and commit what changes", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
