#!/bin/sh
# PID 1 of one member of the lab, in namespaces of its own (net, mount, pid, uts), until tini takes its place.
#
#   member.sh node|bystander NAME      (working directory: the member's own, with the files named below)
#
# It says its pid (as the host counts), waits for "go", sets itself up and says "up". If the controller dies, the
# next read or write fails and this process ends, and its namespaces with it.
set -eu
kind=$1 name=$2

read -r pid _ </proc/self/stat # before the new /proc: here it is still the host's

# What the host can write, a node can only read; what a node must write is its own copy, in memory.
private_files() {
    while read -r _ _ _ _ point _; do
        case $point/ in
            /proc/* | /sys/* | /dev/* | /run/* | /tmp/*) continue ;; # replaced below, or no files
            *\\*) point=$(printf '%b' "$point") ;;                    # blanks are written as \040
        esac
        mount -o remount,bind,ro "$point"
    done </proc/self/mountinfo
    mount -t tmpfs -o mode=755 lab /tmp
    for directory in etc var home opt srv usr/local; do
        [ -d "/$directory" ] || continue
        mkdir -p "/tmp/upper/$directory" "/tmp/work/$directory"
        mount -t overlay -o "lowerdir=/$directory,upperdir=/tmp/upper/$directory,workdir=/tmp/work/$directory" lab "/$directory"
    done
    mount -t tmpfs -o mode=1777 lab /tmp # hides the copies; the overlays hold on to them
    mount -t tmpfs -o mode=1777 lab /dev/shm
    mount -t tmpfs -o mode=700 lab /root # not the host's: its shell profile would run with every command over SSH
    mount -t tmpfs -o mode=755 lab /run
}

# The host's own identity and accounts do not fit: a locked root (Ubuntu) could not log in with a key either.
identity() {
    echo "$name" >/etc/hostname
    cat hosts >/etc/hosts
    sed -i 's/^root:![^:]*:/root:*:/' /etc/shadow
}

services() {
    mkdir -m 755 /run/sshd /run/trscaler-lab
    cp -- * /run/trscaler-lab/ # the working directory lies under the new /run or /tmp, out of everybody else's sight
    cd /run/trscaler-lab
    /usr/sbin/sshd -D -f /run/trscaler-lab/sshd_config -E /run/trscaler-lab/sshd.log </dev/null >/dev/null 2>&1 &
    /usr/bin/python3 -I -S -E responder.py "$name" </dev/null >/dev/null 2>responder.log &
}

[ "$kind" != node ] || private_files
mount -t proc proc /proc
mount -t sysfs sysfs /sys
echo "$name" >/proc/sys/kernel/hostname
echo "$pid"

read -r _ # "go": the wires are there
while read -r key value; do
    echo "$value" >"/proc/sys/$key"
done <sysctl
ip -batch ip.batch
if [ "$kind" = node ]; then
    identity
    services
fi
cd /
echo up
exec tini -- sleep infinity </dev/null >/dev/null 2>&1
