#!/bin/sh
# Write the lock files anew (`make lock`). Needs uv on the path.
set -eu
cd "$(dirname "$0")/.."
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

compile() {
    uv pip compile --quiet --python-version "${python:-3.11}" --python-platform x86_64-manylinux_2_35 \
        --generate-hashes --no-header --no-annotate "$@"
}
collect() { python3 requirements/collect.py "$@"; }

# torch is left out of the locks: whether its CPU or its CUDA build is wanted is the machine's affair.
# What it needs besides is named here, so that its installation finds all of it present.
printf 'torch; python_version < "3"\n' > "$work/without-torch.txt"
{
    collect client export analysis deploy 'client[dask]' 'client[dicom]' 'client[dicomweb]' 'client[node]' 'export[train]'
    cat requirements/tools.in
    printf '%s\n' filelock fsspec jinja2 networkx setuptools sympy typing-extensions wheel
} > "$work/dev.in"
compile --override "$work/without-torch.txt" --output-file requirements/dev.lock "$work/dev.in"

# The demo's packages and those of operations, in the versions that the tests run with.
{ collect client export deploy; printf 'setuptools\nwheel\n'; } > "$work/demo.in"
sed -E '/--hash/d; s/ *\\$//' requirements/dev.lock > "$work/constraints.txt"
compile --constraint "$work/constraints.txt" --output-file requirements/demo.lock "$work/demo.in"

compile --no-deps --output-file requirements/server.lock requirements/server.in

# The image of the DICOM node (deploy/docker/Dockerfile.node).
{ collect client 'client[node]'; printf 'setuptools\nwheel\n'; } > "$work/node.in"
compile --constraint "$work/constraints.txt" --output-file requirements/node.lock "$work/node.in"

# The container brings a Python of its own; deploy/ is checked by programs in an environment of their own.
python=3.12 compile --no-deps --output-file requirements/container.lock requirements/container.in
compile --output-file requirements/deploy.lock requirements/deploy.in
compile --no-deps --output-file requirements/helm.lock requirements/helm.in
