#!/bin/sh
# PID 1 of a host, in namespaces of its own (net, mount, pid, uts, ipc, cgroup), until systemd takes its place.
#
#   boot.sh OUTER     (OUTER is the caller's mount namespace, as /proc/self/ns/mnt says it)
#
# It says its pid (as the outer host counts), waits for "go", for its wire has to be laid, and becomes systemd.
set -eu
read -r pid _ </proc/self/stat # before the new /proc: here it is still the outer one's
if [ "$(readlink /proc/self/ns/mnt)" = "$1" ] || [ $$ != 1 ]; then
    echo "boot.sh is not in namespaces of its own"
    exit 1
fi

# What the outer host can write, this one can only read; what it must write is its own.
while read -r _ _ _ _ point _; do
    case $point/ in
        /proc/* | /sys/* | /dev/* | /run/* | /tmp/* | /mnt/*) continue ;; # replaced below, or its own
        *\\*) point=$(printf '%b' "$point") ;;                             # blanks are written as \040
    esac
    mount -o remount,bind,ro "$point"
done </proc/self/mountinfo
for name in etc var home srv root usr-local; do
    [ ! -d "/$(echo "$name" | tr - /)" ] || mount --bind "/mnt/keep/$name" "/$(echo "$name" | tr - /)"
done
# In this namespace alone: systemd is to see no mounts that lie below others.
umount --lazy --recursive /mnt
umount --lazy --recursive /sys
umount --lazy /proc
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t cgroup2 cgroup2 /sys/fs/cgroup
mount -t tmpfs -o mode=755 host /run
mount -t tmpfs -o mode=1777 host /tmp
mkdir /run/dev
mount -t tmpfs -o mode=755 host /run/dev
for name in null zero full random urandom tty; do
    : >"/run/dev/$name"
    mount --bind "/dev/$name" "/run/dev/$name"
done
umount --lazy --recursive /dev
mount --move /run/dev /dev
rmdir /run/dev
mkdir /dev/shm /dev/pts
mount -t tmpfs -o mode=1777 host /dev/shm
mount -t devpts -o newinstance,ptmxmode=0666,mode=620,gid=5 devpts /dev/pts
ln -s pts/ptmx /dev/ptmx
ln -s /proc/self/fd /dev/fd
echo "$pid"

read -r _ # "go": the wire is there
exec env -i container=lab PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
    "TRSCALER_LAB=${TRSCALER_LAB:-}" /lib/systemd/systemd --system </dev/null >/dev/null 2>&1
