#!/bin/sh
# What a host keeps when it reboots: /etc, /var and the like, in memory; and the cgroup that all its processes are in.
#
#   keep.sh OUTER GROUP     (in a mount namespace of its own; OUTER is the caller's, as /proc/self/ns/mnt says it)
#
# It says "kept", and stays until standard input ends. Then it kills everything in the cgroup, and removes that.
set -eu
outer=$1 group=/mnt/cgroup/$2

fail() {
    echo "$*"
    exit 1
}

[ "$(readlink /proc/self/ns/mnt)" != "$outer" ] || fail "keep.sh is not in a mount namespace of its own"
[ -x /lib/systemd/systemd ] || fail "systemd is not installed"
mount -t tmpfs -o mode=755 host /mnt 2>&1 || fail "nothing can be mounted here"
mkdir /mnt/cgroup /mnt/upper /mnt/work /mnt/keep
mount -t cgroup2 none /mnt/cgroup 2>&1 || fail "there is no cgroup2 here"
mkdir "$group" 2>&1 || fail "no cgroup can be made here"

end() {
    # Also what has just been forked: the kernel sees to it.
    echo 1 >"$group/cgroup.kill"
    until grep -q '^populated 0' "$group/cgroup.events"; do sleep 0.01; done
    find "$group" -depth -type d -exec rmdir {} +
}
trap end EXIT

for name in etc var usr-local; do
    mkdir "/mnt/upper/$name" "/mnt/work/$name" "/mnt/keep/$name"
    lower=/$(echo "$name" | tr - /)
    mount -t overlay -o "lowerdir=$lower,upperdir=/mnt/upper/$name,workdir=/mnt/work/$name" host "/mnt/keep/$name"
done
mkdir -m 755 /mnt/keep/home /mnt/keep/srv
mkdir -m 700 /mnt/keep/root

# A host without any services but those that a test puts there. Of what systemd brings, the journal is enough.
cd /mnt/keep/etc
rm -rf systemd/system rc?.d machine-id fstab trscaler-gen keepalived nftables.conf
mkdir -p systemd/system keepalived
: >fstab
echo 0123456789abcdef0123456789abcdef >machine-id # without one systemd enables everything that there is
for path in /lib/systemd/system/*.target.wants/*; do
    case $path in
        */systemd-journald.service | */systemd-journald.socket | */systemd-journald-dev-log.socket) ;;
        *) ln -sf /dev/null "systemd/system/${path##*/}" ;;
    esac
done
mkdir -p systemd/system-generators
for path in /lib/systemd/system-generators/*; do
    ln -sf /dev/null "systemd/system-generators/${path##*/}"
done
cd /

echo kept
read -r _ || :
