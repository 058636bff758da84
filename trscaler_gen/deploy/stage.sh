# Put a generation beside the others, whole or not at all; the archive comes on standard input.
# Runs as: sh -c THIS sh ROOT/CLUSTER/generations GENERATION
# shellcheck shell=sh
PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:$PATH
LC_ALL=C
export PATH LC_ALL
set -eu
umask 077
base=$1 generation=$2

mkdir -p "$base"
# What a node that lost its power in the middle of this has left behind.
find "$base" -mindepth 1 -maxdepth 1 -name '.staging-*' -mmin +60 -exec rm -rf {} +
staging=$(mktemp -d "$base/.staging-$generation-XXXXXX")
trap 'rm -rf "$staging"' EXIT
trap 'exit 129' HUP INT TERM PIPE

tar -xf - -C "$staging" --no-same-owner || {
    df -Pk -- "$base" >&2
    exit 1
}
cd "$staging"
sha256sum --check --strict --quiet MANIFEST
sync -- *
if [ -d "$base/$generation" ]; then
    # Altered or incomplete: whole files are put in place one by one, because it may be the one that runs.
    for file in *; do mv -f -- "$file" "$base/$generation/$file"; done
else
    mv -T "$staging" "$base/$generation"
fi
sync -- "$base" "$base/$generation"
