#!/bin/sh
# Say plainly why the given Python cannot make the virtual environments.
set -eu
python=${1:-}
if [ -z "$python" ]; then
    echo "error: no Python found: install Python 3.11 with its venv module, or name one: make PYTHON=/path/to/python3.11" >&2
    exit 1
fi
version=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])') || {
    echo "error: $python does not run: name a Python 3.11: make PYTHON=/path/to/python3.11" >&2
    exit 1
}
if [ "$version" != 3.11 ]; then
    echo "error: $python is Python $version, the lock files are for 3.11: make PYTHON=/path/to/python3.11" >&2
    exit 1
fi
"$python" -c 'import ensurepip, venv' 2>/dev/null || {
    echo "error: $python has no venv module: on Debian and Ubuntu, install the package python3.11-venv" >&2
    exit 1
}
