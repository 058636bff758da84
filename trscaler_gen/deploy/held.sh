# How many TCP connections a drained node still holds, or the word `undrained`. Runs as: sh -c THIS sh ROOT/CLUSTER
# shellcheck shell=sh
PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:$PATH
LC_ALL=C
export PATH LC_ALL

[ -e "$1/drained" ] || { echo undrained && exit 0; }
exec sh "$1/current/node.sh" held
