"""The command `dlild` in a process of its own, forked from one that has imported it.

An import takes longer than most commands of a test do. `typed_dlild` starts Python anew, as people
do.
"""

from __future__ import annotations

import functools
import importlib
import json
import os
import pkgutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import IO

ROOT = Path(__file__).parents[2]


def dlild(*arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a command to its end, with further variables in its environment."""
    words, place = [str(argument) for argument in arguments], str(Path.cwd())
    variables = {**_variables(), **environment}
    with tempfile.TemporaryDirectory() as folder:
        outputs = [str(Path(folder, name)) for name in ("stdout", "stderr")]
        order = {"words": words, "variables": variables, "outputs": outputs, "folder": place}
        server = _server()
        assert server.stdin
        assert server.stdout
        server.stdin.write(json.dumps(order) + "\n")
        server.stdin.flush()
        code = int(server.stdout.readline())
        printed = [Path(output).read_text("utf-8") for output in outputs]
    return subprocess.CompletedProcess(words, code, *printed)


def typed_dlild(
    *arguments: object,
    before: Sequence[str] = (),
    stdout: int | IO[str] = subprocess.PIPE,
    **environment: str,
) -> subprocess.CompletedProcess[str]:
    """Run a command in a Python of its own: after further words, or with another output."""
    return subprocess.run(
        [*before, sys.executable, "-m", "dlild_client.cli", *map(str, arguments)],
        stdout=stdout,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
        env={**_variables(), **environment},
    )


def assert_one_line(done: subprocess.CompletedProcess[str], code: int, words: str) -> None:
    """Check that a command ended in one line of error."""
    assert done.returncode == code, done.stderr
    assert done.stdout == ""
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1
    assert words in done.stderr


@functools.cache
def _server() -> subprocess.Popen[str]:
    """Start the process that forks; it ends when this one does, and closes its standard input."""
    return subprocess.Popen(
        [sys.executable, __file__],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**_variables(), "GRPC_VERBOSITY": "NONE"},
    )


def _variables() -> dict[str, str]:
    path = os.pathsep.join([str(ROOT / "client" / "src"), os.environ.get("PYTHONPATH", "")])
    return {**os.environ, "PYTHONPATH": path, "COLUMNS": "100"}


def _serve() -> None:
    """Fork for every order that comes, and answer with the exit code of the child."""
    import dlild_client  # noqa: PLC0415

    for module in pkgutil.walk_packages(dlild_client.__path__, "dlild_client."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    for line in sys.stdin:
        child = os.fork()
        if not child:
            _command(json.loads(line))
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)


def _command(order: dict) -> None:
    """Be the command, to the end of this process."""
    for number, output in enumerate(order["outputs"], start=1):
        os.dup2(os.open(output, os.O_WRONLY | os.O_CREAT), number)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.environ.clear()
    os.environ.update(order["variables"])
    os.chdir(order["folder"])
    sys.argv = ["dlild", *order["words"]]
    from dlild_client.cli import main  # noqa: PLC0415

    main()
    sys.exit(0)


if __name__ == "__main__":
    _serve()
