#!/bin/sh
# Name in one line the programs that were missing in the tests (`make test` ends with it):
#   missing.sh FOLDER
# FOLDER is the one that tools.sh fills. Prints nothing where nothing is missing.
set -eu
PATH="$1/bin:$PATH:/usr/sbin"
missing=
# A program, and the Debian package that root can install it from; what tools.sh fetches is here
# where this is no Debian, or its packages could not be reached.
for pair in docker:docker.io openssl:openssl setpriv:util-linux haproxy:haproxy promtool:prometheus amtool:prometheus-alertmanager \
    prometheus-blackbox-exporter:prometheus-blackbox-exporter helm: kubectl: hadolint: shellcheck:shellcheck yamllint:yamllint; do
    program=${pair%%:*} package=${pair#*:}
    command -v "$program" >/dev/null || missing="$missing, $program${package:+ (root: apt-get install $package)}"
done
if [ -n "$missing" ]; then
    echo "tests were skipped for want of ${missing#, }; all others ran"
fi
