# Facts of a node, as key=value lines. Runs as: sh -c THIS sh ROOT/CLUSTER LINK GENERATION TOOL...
# shellcheck shell=sh
PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:$PATH
LC_ALL=C
export PATH LC_ALL
root=$1 link=$2 wanted=$3
shift 3

fact() { printf '%s=%s\n' "$1" "$2"; }
first_line() { "$@" 2>&1 </dev/null | head -n 1; }

fact uid "$(id -u)"
fact kernel "$(uname -r)"
missing=
for tool in "$@"; do command -v "$tool" >/dev/null 2>&1 || missing="$missing $tool"; done
fact missing "$missing"
fact nft_version "$(first_line nft --version)"
fact keepalived_version "$(first_line keepalived --version)"
if [ -d "/sys/class/net/$link" ]; then fact link yes; else fact link no; fi

place=$root
while [ ! -d "$place" ]; do place=$(dirname -- "$place"); done
fact free_kib "$(df -Pk -- "$place" | { read -r _; read -r _ _ _ free _; echo "$free"; })"

staged=no
if [ -n "$wanted" ] && cd "$root/generations/$wanted" 2>/dev/null; then
    ! sha256sum --check --strict --status MANIFEST 2>/dev/null || staged=yes
    cd /
fi
fact staged "$staged"

if [ -e "$root/current/node.sh" ]; then
    sh "$root/current/node.sh" state || fact state_status "$?"
fi
