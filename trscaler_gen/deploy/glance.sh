# Looks at a node whenever it is asked to. Runs as: sh -c THIS sh ROOT/CLUSTER TABLE OBSERVE LINK GENERATION TOOL...
# A line of standard input is a question: `all` (OBSERVE, the text of observe.sh, answers it), or the names of sets:
# what changes from one second to the next, with these sets, for a process each and four more.
# `end` ends an answer, and the end of the input everything. Reads only.
# shellcheck shell=sh
PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:$PATH
LC_ALL=C
export PATH LC_ALL
root=$1 table=$2 observe=$3
shift 3
run=/run/trscaler-gen/${root##*/}

# Sets WORD to the first line of a file; to nothing if it is not there.
read_word() {
    WORD=
    { [ ! -e "$1" ] || read -r WORD <"$1" || :; } 2>/dev/null
}

fact() { printf '%s=%s\n' "$1" "$2"; }

# Both of keepalived's processes, as node.sh has it.
heartbeat_runs() {
    for name in keepalived vrrp; do
        read_word "$run/$name.pid"
        [ -n "$WORD" ] || return 1
        words=
        { read -r words <"/proc/$WORD/cmdline" || :; } 2>/dev/null
        case $words in *"--use-file=$root/current/keepalived.conf"*) ;; *) return 1 ;; esac
    done
}

# What the kernel says: "list counters" would read every map's elements, which takes several times as long; and nft
# 1.0.6 finds no set when it is asked for two at a time. Runs as: sh -c THIS sh TABLE SET...
# shellcheck disable=SC2016  # the inner shell's words
kernel='nft -t list ruleset netdev | awk -v table="$1" '"'"'
    $1 == "table" { ours = $3 == table; found = found || ours }
    !ours { next }
    $1 == "counter" && NF == 3 { counter = $2 }
    $1 == "packets" && counter { print counter "=" $2; counter = "" }
    END { print "has_table=" (found ? "yes" : "no") }'"'"'
table=$1
shift
for name in "$@"; do nft list set netdev "$table" "$name"; done'

look_at_changes() {
    read -r uptime _ </proc/uptime
    fact uptime "$uptime"
    generation=
    ! cd -P -- "$root/current" 2>/dev/null || generation=${PWD##*/}
    cd /
    fact generation "$generation"
    for name in loaded epoch serial heartbeat; do
        read_word "$run/$name"
        fact "$name" "$WORD"
    done
    if heartbeat_runs; then fact keepalived running; else fact keepalived stopped; fi
    if [ -e "$root/drained" ]; then fact draining yes; else fact draining no; fi
    # The name stays behind when its owner is killed; the lock does not.
    holder=
    if [ -e "$run/deploy-holder" ] && ! flock -s -n "$run/deploy" true; then
        read -r _ holder <"$run/deploy-holder" || :
    fi
    fact holder "$holder"
    timeout -k 1 10 sh -c "$kernel" sh "$table" "$@"
}

# A node that is ill must not be left with more and more that hangs: nothing outlives its question for long.
while read -r question; do
    # shellcheck disable=SC2086  # the names are words
    case $question in
        all) timeout -k 1 30 sh -c "$observe" sh "$root" "$@" </dev/null ;;
        *) look_at_changes $question </dev/null ;;
    esac 2>/dev/null
    echo end
done
