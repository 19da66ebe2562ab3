"""Where the checkout is: models, configuration of the proxy, lock files, caches."""

from pathlib import Path


def _find_root() -> Path:
    """Return the checkout that this source lies in; the current folder for an installed wheel."""
    root = Path(__file__).resolve().parents[3]
    return root if (root / "model_repository").is_dir() else Path.cwd()


ROOT = _find_root()
DEPLOY = ROOT / "deploy"
MODEL_REPOSITORY = ROOT / "model_repository"
CACHE = ROOT / ".cache"
TOOLS = ROOT / ".tools" / "bin"
"""Programs that `make deploy-tools` fetches."""
