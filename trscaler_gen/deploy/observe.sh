# Facts of a node, as key=value lines. Runs as: sh -c THIS sh ROOT/CLUSTER LINK GENERATION [TOOL...]
# Without TOOLs nothing is said of what the host can do, which somebody knows who asks again.
# Reads only. It is asked of many nodes at once: it starts as few processes as it can.
# shellcheck shell=sh
PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:$PATH
LC_ALL=C
export PATH LC_ALL
root=$1 link=$2 wanted=$3
shift 3
run=/run/trscaler-gen/${root##*/}

fact() { printf '%s=%s\n' "$1" "$2"; }

# Of what a command says.
first_line() {
    said=$("$@" 2>&1 </dev/null)
    printf '%s\n' "${said%%
*}"
}

# Lines "KEY=SHA-256  NAME" of a folder's files; MANIFEST itself is not in its list.
digests() {
    sha256sum -- "$1"/* 2>/dev/null | while read -r digest name; do
        [ "${name##*/}" = MANIFEST ] || echo "digest=$digest  ${name##*/}"
    done
    [ ! -e "$1/MANIFEST" ] || while read -r digest name; do
        case $digest in "#"*) ;; *) echo "listed=$digest  $name" ;; esac
    done <"$1/MANIFEST"
}

look_at_host() {
    fact uid "$(id -u)"
    read -r kernel </proc/sys/kernel/osrelease
    fact kernel "$kernel"
    word=$(printf '\001\000' | od -An -tu2)
    fact byte_order "${word##* }"
    missing=
    for tool in "$@"; do command -v "$tool" >/dev/null 2>&1 || missing="$missing $tool"; done
    fact missing "$missing"
    fact nft_version "$(first_line nft --version)"
    fact keepalived_version "$(first_line keepalived --version)"
    place=$root
    while [ ! -d "$place/" ]; do place=${place%/*}; done
    fact free_kib "$(df -Pk -- "$place/" | { read -r _; read -r _ _ _ free _; echo "$free"; })"
}

[ $# = 0 ] || look_at_host "$@"
if [ -d "/sys/class/net/$link" ]; then fact link yes; else fact link no; fi

staged=no
if [ -n "$wanted" ] && cd "$root/generations/$wanted" 2>/dev/null; then
    ! sha256sum --check --strict --status MANIFEST 2>/dev/null || staged=yes
    cd /
fi
fact staged "$staged"

# Of this network namespace, and the most that there may be. dash would read no more than a digit of such a file.
table=/proc/sys/net/netfilter/nf_conntrack
tracked=$(cat "${table}_count" "${table}_max" 2>/dev/null) || tracked=
fact tracked "${tracked%%
*}"
fact most_tracked "${tracked##*
}"

# The name stays behind when its owner is killed; the lock does not.
holder=
if [ -e "$run/deploy-holder" ] && ! flock -s -n "$run/deploy" true; then
    read -r _ holder <"$run/deploy-holder" || :
fi
fact holder "$holder"

# A node that runs nothing may have a past, and a change to confirm: any generation can tell.
if [ -e "$root/current/node.sh" ]; then
    sh "$root/current/node.sh" state || fact state_status "$?"
else
    for script in "$root"/generations/*/node.sh; do
        [ ! -e "$script" ] || ! sh "$script" state || break
    done
fi
[ ! -e "$root/current/" ] || digests "$root/current"
