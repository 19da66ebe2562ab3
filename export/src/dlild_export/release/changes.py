"""Several files and folders changed together, or not at all."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path


@dataclass
class Changes:
    """What will be put in place: prepared beside the target first, then renamed.

    Attributes
    ----------
    staging : pathlib.Path
        Where everything is prepared; on the target's file system, so that a rename is enough.
    """

    staging: Path
    _steps: list[tuple[Path, Path]] = field(default_factory=list)

    def write(self, target: Path, text: str) -> None:
        """Prepare a file that replaces the target, or is new."""
        prepared = self._next()
        prepared.write_text(text, encoding="utf-8")
        self._steps.append((prepared, target))

    def copy(self, source: Path, target: Path) -> None:
        """Prepare a copy of a file, which replaces the target or is new."""
        prepared = self._next()
        shutil.copyfile(source, prepared)
        self._steps.append((prepared, target))

    def add_folder(self, target: Path) -> Path:
        """Return a folder to fill, which becomes the target; the target must not be there."""
        prepared = self._next()
        prepared.mkdir()
        self._steps.append((prepared, target))
        return prepared

    def apply(self) -> None:
        """Rename everything into place; where one step fails, take back those before it.

        Raises
        ------
        FileExistsError
            The target of a folder is there already.
        OSError
            What the file system says; nothing is changed then.
        """
        with contextlib.ExitStack() as undo:
            for prepared, target in self._steps:
                if prepared.is_dir():
                    self._place_folder(prepared, target, undo)
                else:
                    self._place_file(prepared, target, undo)
            undo.pop_all()

    def _place_folder(self, prepared: Path, target: Path, undo: contextlib.ExitStack) -> None:
        if target.exists():
            raise FileExistsError(f"{target} is there already, and is never overwritten")
        target.parent.mkdir(parents=True, exist_ok=True)
        prepared.rename(target)
        undo.callback(shutil.rmtree, target)

    def _place_file(self, prepared: Path, target: Path, undo: contextlib.ExitStack) -> None:
        if target.exists():
            former = self._next()
            shutil.copy2(target, former)
            undo.callback(former.replace, target)
        else:
            undo.callback(target.unlink, missing_ok=True)
        prepared.replace(target)

    def _next(self) -> Path:
        return Path(tempfile.mkdtemp(dir=self.staging)) / "prepared"


@contextlib.contextmanager
def changes_beside(target: Path) -> Iterator[Changes]:
    """Prepare changes of a folder's content in a staging folder, which is deleted in the end.

    Parameters
    ----------
    target : pathlib.Path
        Folder whose content is to change. The staging folder is beside it, not in it: Triton takes
        every folder of a model repository for a model.
    """
    staging = Path(tempfile.mkdtemp(prefix=".dlild-release-", dir=target.resolve().parent))
    try:
        yield Changes(staging)
    finally:
        shutil.rmtree(staging, ignore_errors=True)
