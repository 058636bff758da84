# What tells one boot of a host, or of a container, from another; and whether it is about to go down.
# shellcheck shell=sh
PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:$PATH
LC_ALL=C
export PATH LC_ALL

# The second field of stat may hold anything; the twentieth after it is when process 1 began.
read -r boot </proc/sys/kernel/random/boot_id
stat=$(cat /proc/1/stat)
stat=${stat##*) }
# shellcheck disable=SC2086  # words
set -- $stat
echo "boot=$boot-${20}"

going_down() {
    [ -e /run/systemd/shutdown/scheduled ] && return
    [ -d /run/systemd/system ] || { runlevel 2>/dev/null | grep -q '[06]$'; return; }
    [ "$(systemctl is-system-running)" = stopping ] && return
    # logind waits some seconds for those who asked it to, before it begins.
    busctl get-property org.freedesktop.login1 /org/freedesktop/login1 \
        org.freedesktop.login1.Manager PreparingForShutdown | grep -q true
}
if going_down 2>/dev/null; then echo going=yes; else echo going=no; fi
