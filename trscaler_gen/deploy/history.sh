# A node's history, as key=value lines. Runs as: sh -c THIS sh ROOT/CLUSTER
# shellcheck shell=sh
PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:$PATH
LC_ALL=C
export PATH LC_ALL
root=$1

# As another user would see none, and take the node for one without a past.
[ "$(id -u)" = 0 ] || exit 77

current=$(readlink -- "$root/current") || current=
echo "current=${current##*/}"
for script in "$root/generations"/*/node.sh; do
    [ -e "$script" ] || continue
    folder=${script%/node.sh}
    echo "generation=${folder##*/}"
done
[ ! -e "$root/history" ] || sed 's/^/line=/' "$root/history"
