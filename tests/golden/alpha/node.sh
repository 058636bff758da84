#!/bin/sh
# Cluster golden, node alpha: everything that happens on the node itself.
# Made by trscaler-gen 0.1.0 from cluster.yaml: change the inventory, not this file.
#
#   check    give this generation's files to nft and keepalived; changes nothing
#   up [TOKEN SECONDS]     start this generation on a node that runs none
#   await                  wait until it serves, as long as that may take
#   swap [TOKEN SECONDS]   let this generation replace the running one; leases are kept (exit 75: needs down and up)
#   down [TOKEN SECONDS]   say goodbye, then take everything away
#   confirm TOKEN          let the change stay; without this the node goes back SECONDS after it began
#   revert TOKEN           go back now to what ran before
#   drain [force]          let new connections go elsewhere; those that are here stay, also across a reboot
#   undrain                take new connections again
#   held                   how many TCP connections to the shared addresses are here
#   switch                 let the whole cluster go over to the newer of two placements
#   record CHANGE WHO      write down what was applied, and remove old generations
#   erase    remove every trace of the cluster from a node that is down
#   state    what runs, as key=value lines
#   metrics  how it runs, as text for Prometheus
#   health   keepalived's question: is the ruleset whole, and is the service well?
#   notify   keepalived's news
#   watch    wait for changes of the ruleset, and mend
#   publish  write metrics into node_exporter's folder
#   mend     put the ruleset back if somebody has removed or altered it
#   attach   ruleset and addresses alone (what the systemd unit starts); detach takes them away
#
# Needs: a POSIX shell, coreutils, util-linux, nft, iproute2, keepalived.
set -eu

CLUSTER=golden
NODE=alpha
NODE_ID=1
BUCKETS=64
EPOCH=1
SERIAL=1
# The serial at which buckets last moved between living nodes, and whether the placement of before is here as well.
SWITCH=0
TWO_PLACEMENTS=no
PRESERVES=yes
LEASE_MS=225
TABLE=trscaler_golden
UNIT=trscaler-gen-golden
# The host's own: its heartbeats come from it.
ADDRESS=192.0.2.11
ADDRESSES='192.0.2.100 192.0.2.101 2001:db8::100'
# As /proc/net/nf_conntrack writes them.
LONG_ADDRESSES='192.0.2.100 192.0.2.101 2001:0db8:0000:0000:0000:0000:0000:0100'
HAS_IPV6=yes
# All of the cluster, this node's among them: NAME=ID, and VRRP ids.
NODES='alpha=1 beta=2 gamma=3'
VRIDS='70 71 72'
HEALTH_PROGRAM=/usr/local/bin/app-ok
DRAIN_BEFORE_STOP_S=30
# By then a healthy node has sent its first heartbeat.
SERVES_WITHIN_S=5
# Where metrics are written and how often: FOLDER SECONDS; nothing if they are not.
METRICS=''
# What cannot change under a running cluster: link, macvlan, cluster MAC, inner MAC, mode.
FRAME='eth0 vip-golden 02:53:c0:00:02:64 06:53:bc:00:02:64 stealth'

ROOT=/etc/trscaler-gen/golden
RUN=/run/trscaler-gen/golden

# shellcheck disable=SC2086  # a list of words
set_frame() { LINK=$1 DEVICE=$2 CLUSTER_MAC=$3 INNER_MAC=$4; }
# shellcheck disable=SC2086  # a list of words
set_frame $FRAME

PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
LC_ALL=C
export PATH LC_ALL
umask 077

# This generation's folder, also when called through the link `current`.
case $0 in */*) cd -P -- "${0%/*}" ;; *) cd -P . ;; esac
HERE=$PWD
cd /

CANNOT_SWAP=75   # EX_TEMPFAIL of sysexits.h
NOTHING_OPEN=66  # EX_NOINPUT: nothing to go back from
NOT_TO_SERVE=69  # EX_UNAVAILABLE: the unit does not try again
KEPT_GENERATIONS=5
KEPT_LINES=200
READ_RULES_EVERY_S=10
LONGEST_ARMED_WAIT_S=30 # somebody waits for the verb

# The user's own question, from cluster.yaml health.command.
service_is_well() {
    timeout -k 1 5 /usr/local/bin/app-ok --deep
}

# --- words -----------------------------------------------------------------------------------------

say() { printf '%s: %s\n' "$CLUSTER" "$*"; }

note() {
    say "$*" >&2
    logger -t "$UNIT" -- "$*" 2>/dev/null || :
}

die() {
    note "$*"
    exit 1
}

LOCKED=no
# Called by `revert`. Daemons that are started meanwhile are not.
RETURNING=${TRSCALER_RETURNING:-no}
unset TRSCALER_RETURNING

# One change at a time. Daemons that are started meanwhile must not inherit the lock: 9>&-.
lock() { lock_within 20 || die "another change has held $RUN/lock for 20 s"; }

# Fails if others have had it for so many seconds.
lock_within() {
    [ "$LOCKED" = no ] || return 0
    [ -d "$RUN" ] || mkdir -p "$RUN"
    exec 9>"$RUN/lock"
    flock -w "$1" 9 || { unlock && return 1; }
    LOCKED=yes
}

unlock() {
    exec 9>&-
    LOCKED=no
}

under_systemd() { [ -d /run/systemd/system ]; }

sysctl_file() { printf '/proc/sys/net/%s\n' "$1"; }

# Sets WORD to the first line of a file; to nothing if it is not there.
read_word() {
    WORD=
    [ ! -e "$1" ] || read -r WORD <"$1" || :
}

hardware_address() { read_word "/sys/class/net/$LINK/address" && echo "$WORD"; }

# 1 is IFF_UP.
device_is_up() {
    [ -e "/sys/class/net/$DEVICE/flags" ] && read -r flags <"/sys/class/net/$DEVICE/flags" &&
        [ $((flags & 1)) = 1 ]
}

# Sets NOW to the generation that is to run; to nothing if none is.
find_current() {
    NOW=
    ! cd -P -- "$ROOT/current" 2>/dev/null || NOW=${PWD##*/}
    cd /
}

# --- ruleset ---------------------------------------------------------------------------------------

load() {
    errors=$(nft -I "$HERE" -D "hwaddr=$(hardware_address)" "$@" 2>&1) && return
    without_seed "$errors" >&2
    return 1
}

# What nft says of a rule quotes it, and some hold the seed.
without_seed() { printf '%s\n' "$1" | sed 's/seed [0-9a-fx]*/seed .../'; }

# What the kernel has of our table, without leases. The rank maps are constant: the kernel refuses to change
# them, so the rules are all that can be altered. "list table", "list tables", "list counters" and "get element"
# read every map's elements, even when told not to show them: 45 ms with 32 nodes, where this takes 9.
# Fails if nft cannot say: a table that is not there is an answer.
kernel_listing() {
    nft -t list ruleset netdev || return 1
    [ "$PRESERVES" = yes ] || return 0
    answer=$(nft -t list table inet "$TABLE" 2>&1) || case $answer in *"No such file"*) return 0 ;; *) return 1 ;; esac
    printf '%s\n' "$answer"
}

# What the listing has to be: the same files in a network of their own, where nobody else loads or flushes.
# Taking it from the kernel after a load would take somebody's flush in between for the truth.
expected_listing() {
    # Half of a file must not pass for the whole: nft refuses what is said then.
    # shellcheck disable=SC2016  # the inner shell's words
    { { with_short_maps "$HERE/ruleset.nft" && cat "$HERE/peers.nft"; } || echo incomplete; } |
        unshare --net sh -c 'ip link set dev lo name "$1" && nft -D "hwaddr=$2" -f - && nft -s -t list ruleset' \
            sh "$LINK" "$(hardware_address)"
}

# Of each preference order only the first line: the listing shows none of them, and nine tenths of the time of a load
# are theirs. All lines stay where they are, so that what nft says of one is found there.
with_short_maps() {
    awk '
        /^    map (first|rank|before)/ { in_order = 1 }
        in_order && $1 == "elements" { print; getline; sub(/,$/, ""); print; print "}"; is_rest = 1; next }
        is_rest && $1 == "}" { in_order = is_rest = 0; next }
        { print is_rest ? "" : $0 }' "$1"
}

# Where `check` leaves it for the load that follows.
kept_listing() { printf '%s/expected-%s-%s\n' "$RUN" "${HERE##*/}" "$(hardware_address)"; }

keep_listing() {
    [ -d "$RUN" ] || mkdir -p "$RUN"
    if ! errors=$(expected_listing 2>&1 >"$1.$$"); then
        without_seed "$errors" | sed "s,/dev/stdin:,$HERE/ruleset.nft:," >&2
        rm -f "$1.$$"
        return 1
    fi
    mv -f "$1.$$" "$1"
}

# It is used once: if another nft has made it, its words may differ, and the next one is made anew.
remember() {
    kept=$(kept_listing)
    [ -s "$kept" ] || keep_listing "$kept" || return 1
    mv -f "$kept" "$RUN/listing"
    remember_generation
}

remember_generation() {
    printf '%s\n' "$EPOCH" >"$RUN/epoch"
    printf '%s\n' "$SERIAL" >"$RUN/serial"
    printf '%s\n' "$SWITCH" >"$RUN/switch"
    printf '%s\n' "${HERE##*/}" >"$RUN/loaded"
}

is_loaded() { [ -e "$RUN/listing" ]; }

# Rules, addresses and heartbeats hang on a device, not on its name: one that was deleted and made again has another
# number and perhaps another address. Older kernels take the rules of a deleted device away and tell nobody, newer
# ones move them to the next of its name. Of a node that was started by an earlier version nothing is known.
link_is_another() {
    read_word "$RUN/link"
    [ -n "$WORD" ] || return 1
    loaded_for=$WORD
    read_word "/sys/class/net/$LINK/ifindex"
    [ "$WORD" != "$loaded_for" ]
}

# Sets LOADED to the generation that is in the kernel.
find_loaded() {
    read_word "$RUN/loaded"
    LOADED=$WORD
}

# Sets RULESET to intact, altered, missing, or to unreadable when nft itself fails, and the packets that were ACCEPTED, DROPPED and KEPT. The order of
# lines says nothing: after a swap the same objects stand in another one. What is remembered may go meanwhile, with the rules.
look_at_ruleset() {
    remembered=$RUN/listing
    is_loaded || remembered=/dev/null
    RULESET=unreadable ACCEPTED=0 DROPPED=0 KEPT=0 AT_ONCE=0
    listing=$(kernel_listing) || return 0
    seen=$(printf '%s\n' "$listing" | awk -v table="$TABLE" '
        function many(name) { return name in packets ? packets[name] : 0 }
        !kernel { expected[$0]++; missing++; next }
        $1 == "table" && $3 == table { ours = found = 1 }
        !ours { next }
        /^}/ { ours = 0 }
        $1 == "counter" { counter = $2 }
        $1 == "packets" { packets[counter] = $2; next }
        # Those rules of the short way that drop count for themselves.
        match($0, / packets [0-9]+ bytes [0-9]+/) {
            split(substr($0, RSTART, RLENGTH), said, " ")
            at_once += said[2]
            $0 = substr($0, 1, RSTART - 1) substr($0, RSTART + RLENGTH)
        }
        expected[$0]-- > 0 { missing--; next }
        { added = 1 }
        END {
            word = !found ? "missing" : missing || added ? "altered" : "intact"
            printf "%s %s %s %s %.0f\n", word, many("accepted"), many("dropped"), many("kept"), at_once
        }' "$remembered" kernel=1 - 2>/dev/null) || return 0
    read -r RULESET ACCEPTED DROPPED KEPT AT_ONCE <<EOF
$seen
EOF
    [ "$RULESET" != intact ] || ! link_is_another || RULESET=altered
    read_word "$RUN/at_once"
    AT_ONCE=$((AT_ONCE + ${WORD:-0}))
    DROPPED=$((DROPPED + AT_ONCE))
}

is_intact() {
    RULESET=missing
    is_loaded || return 1
    look_at_ruleset
    # To load rules anew ends leases: not for a listing that failed.
    [ "$RULESET" = intact ] || [ "$RULESET" = unreadable ]
}

# Peers count as alive for one lease: a node that knows nothing must not claim everything.
load_boot() {
    load_boot_rules || return 1
    remember_boot
}

load_boot_rules() { boot_transaction | load -f -; }

# A node may have run another epoch before it lost its rules, and its peers still hold its lease.
boot_transaction() {
    printf 'include "%s/boot.nft"\n' "$HERE"
    lasting_elements
    read_word "$RUN/epoch"
    case $WORD in "" | "$EPOCH") ;; *) announcement ;; esac
}

announcement() { printf 'add element netdev %s announcing { %s }\n' "$TABLE" "$NODE_ID"; }

# Counters begin anew.
remember_boot() {
    [ ! -e "$RUN/at_once" ] || rm -f "$RUN/at_once"
    read_word "/sys/class/net/$LINK/ifindex"
    echo "$WORD" >"$RUN/link"
    remember
}

# What its operator and its peers have told this node, and what outlives the kernel's tables.
lasting_elements() {
    ! is_drained || printf 'add element netdev %s drained { %s }\n' "$TABLE" "$NODE_ID"
    [ "$TWO_PLACEMENTS" = yes ] || return 0
    read_word "$ROOT/switched"
    [ "$WORD" != "$SWITCH" ] || printf 'add element netdev %s switched { "%s" }\n' "$TABLE" "$LINK"
}

# File WORD in $ROOT, so that it lasts.
write_down() {
    if ! { printf '%s\n' "$2" >"$ROOT/$1" && sync -- "$ROOT/$1"; } 2>/dev/null; then
        rm -f "$ROOT/$1"
        note "$ROOT/$1 cannot be written: is there room?"
        return 1
    fi
}

is_drained() { [ -e "$ROOT/drained" ]; }

# Chains, maps and sets in the kernel that our files do not have: of another tag, or of rules that we do without.
old_objects() {
    kernel_listing |
        awk -v table="$TABLE" '
            { is_object = $1 == "chain" || $1 == "map" || $1 == "set" }
            !kernel { if (is_object) declared[$2]; next }
            $1 == "table" { ours = $2 == "netdev" && $3 == table }
            ours && is_object && !($2 in declared) { print $1, $2 }' "$HERE/ruleset.nft" kernel=1 -
}

# Deletes those of the sets $* that there are; what is loaded next makes them anew. The rules go first: until the end of
# the transaction they write into the sets that there were, and would fill again what is merely emptied.
forget_sets() {
    listing=$(kernel_listing) || { note "nft cannot list what there is to forget" && return 1; }
    printf 'table netdev %s { }\nflush table netdev %s\n' "$TABLE" "$TABLE"
    printf '%s\n' "$listing" | awk -v table="$TABLE" -v names=" $* " '
        $1 == "table" { ours = $2 == "netdev" && $3 == table }
        ours && $1 == "set" && index(names, " " $2 " ") { print "delete set netdev", table, $2 }'
}

# One transaction: the new rules and maps come, the leases stay. Leases of another epoch
# are worth nothing: under another contract a living peer may answer for other buckets. So a node that changes
# its epoch begins like one that boots, and lets its peers hear of it before it takes its lease.
# A switch that was made under this number stays made; of another one nothing is known yet.
swap_transaction() {
    of_another_epoch=no of_another_switch=no
    read_word "$RUN/epoch"
    [ "$WORD" = "$EPOCH" ] || of_another_epoch=yes
    read_word "$RUN/switch"
    [ "$TWO_PLACEMENTS" = no ] || [ "$WORD" = "$SWITCH" ] || of_another_switch=yes
    if [ $of_another_epoch = yes ]; then
        forget_sets alive fenced announcing abreast settled company hosted inherited || return 1
    fi
    if [ $of_another_switch = yes ]; then forget_sets switched pending || return 1; fi
    printf 'include "%s/ruleset.nft"\n' "$HERE"
    if [ $of_another_epoch = yes ]; then
        printf 'include "%s/peers.nft"\n' "$HERE"
        announcement
    fi
    # Rules that did not preserve connections say nothing of company: this node was not alone for all that, and its
    # connections are its own, known to conntrack or not.
    if [ "$PRESERVES" = yes ] && has_living_peer; then
        printf 'add element netdev %s company { %s timeout %sms }\n' "$TABLE" "$NODE_ID" "$LEASE_MS"
    fi
    if [ $of_another_switch = yes ]; then lasting_elements; fi
}

# nft may be asked with -c whether it would.
load_swap_transaction() {
    transaction=$(swap_transaction) || return 1
    printf '%s\n' "$transaction" | load "$@" -f -
}

load_swap() {
    load_swap_transaction || return 1
    # What the rules before counted goes with them; of what is in the other counters nothing is lost.
    printf '%s\n' "$AT_ONCE" >"$RUN/at_once" || :
    delete_old_objects || note "parts of the ruleset before are left: the next swap deletes them"
    remember
}

# In a transaction of their own: a packet that is halfway through the old rules must still find the old maps.
# Deleted together with the rules they would be empty to it, and the next in line would believe it is the owner.
# Chains are empty by then.
delete_old_objects() {
    old_objects | while read -r kind name; do
        printf 'delete %s netdev %s %s\n' "$kind" "$TABLE" "$name"
    done | nft -f -
}

# A node without its rules must not keep the addresses up: it would answer questions for the inner MAC.
heal() {
    another=no
    if link_is_another; then another=yes; fi
    note "ruleset $1: loading it again"
    [ "$1" != missing ] || ip link set dev "$DEVICE" down 2>/dev/null || :
    if ! load_boot_rules || ! { raise_device; remember_boot; }; then
        ip link set dev "$DEVICE" down 2>/dev/null || :
        note "the ruleset does not load, or $RUN is full: addresses are down until that is mended"
        return 1
    fi
    ensure_device
    note "ruleset is whole again"
    [ "$another" = no ] || follow_link
}

# keepalived sends nothing over a device that has come in the place of another until it reads its configuration again.
follow_link() {
    note "$LINK was made again: heartbeats begin anew on it"
    ! heartbeat_runs || reload_daemon || note "keepalived does not reload"
}

# From its rules on a node's heartbeats count: whoever stood in for it stops, so its addresses come at once, before
# anything else is looked at.
raise_device() { ! has_inner_mac || ip link set dev "$DEVICE" up || :; }

# --- link and addresses ----------------------------------------------------------------------------

# With the rules gone, nobody must take a frame to the cluster MAC for his own; nor one to a multicast MAC that the
# cluster had before, in another mode. The macvlan hears it as well when somebody looks at all frames there, or by
# chance: its filter for multicast MACs is a hash of 8 bits.
deafness_settings() {
    echo "ipv4/conf/$1/drop_unicast_in_l2_multicast 1"
    [ "$HAS_IPV6" = no ] || echo "ipv6/conf/$1/drop_unicast_in_l2_multicast 1"
}

# "file value" for every kernel setting of the link that the cluster needs.
link_settings() {
    echo "ipv4/conf/$LINK/arp_ignore 1"
    echo "ipv4/conf/$LINK/arp_announce 2"
    deafness_settings "$LINK"
}

device_settings() {
    echo "ipv4/conf/$DEVICE/arp_ignore 1"
    echo "ipv4/conf/$DEVICE/arp_announce 2"
    echo "ipv4/conf/$DEVICE/rp_filter 2"
    echo "ipv4/conf/$DEVICE/arp_notify 1" # tells the neighbours when the addresses come up: the MAC may be another
    deafness_settings "$DEVICE"
    if [ "$HAS_IPV6" = no ]; then
        [ ! -d /proc/sys/net/ipv6 ] || echo "ipv6/conf/$DEVICE/disable_ipv6 1"
        return
    fi
    # The address is shared by design: looking for duplicates would find them.
    echo "ipv6/conf/$DEVICE/accept_dad 0"
    echo "ipv6/conf/$DEVICE/ndisc_notify 1"
    echo "ipv6/conf/$DEVICE/accept_ra 0"
    echo "ipv6/conf/$DEVICE/autoconf 0"
    # No link-local address of its own: it would be the same on every node.
    echo "ipv6/conf/$DEVICE/addr_gen_mode 1"
    echo "ipv6/conf/$DEVICE/keep_addr_on_down 1"
    echo "ipv6/conf/$DEVICE/disable_ipv6 0" # the generation before may have had no IPv6; last, for it makes addresses
}

apply_settings() {
    while read -r name value; do
        echo "$value" >"/proc/sys/net/$name"
    done
}

# What other clusters on this host found before they changed it: files of "file value".
find_others() {
    OTHERS=
    for found in "${RUN%/*}"/*/settings-before; do
        [ "$found" = "$RUN/settings-before" ] || [ ! -e "$found" ] || OTHERS="$OTHERS $found"
    done
}

# As it was before any cluster on this host came. The generation before may have needed fewer. Another cluster's file may
# go meanwhile, and what cannot be read need not be put back.
save_link_settings() {
    [ -e "$RUN/settings-before" ] || : >"$RUN/settings-before"
    find_others
    link_settings | awk -v others="$OTHERS" '
        BEGIN {
            for (i = split(others, files); i > 0; i--)
                while ((getline line <files[i]) > 0)
                    if (split(line, words) == 2) found[words[1]] = words[2]
        }
        !is_wanted { saved[$1]; print; next }
        $1 in saved { next }
        $1 in found || (getline found[$1] <("/proc/sys/net/" $1)) > 0 { print $1, found[$1] }
        ' "$RUN/settings-before" is_wanted=1 - >"$RUN/settings-before.new" || return 1
    mv -f "$RUN/settings-before.new" "$RUN/settings-before"
}

# What another cluster on this link needs stays; the last to go puts it back.
restore_link_settings() {
    [ -e "$RUN/settings-before" ] || return 0
    find_others
    while read -r name value; do
        # shellcheck disable=SC2086  # names, none of which has a blank
        [ -n "$OTHERS" ] && grep -qs "^$name " $OTHERS || echo "$value" >"/proc/sys/net/$name" || :
    done <"$RUN/settings-before"
}

accepts_cluster_mac() {
    case $(bridge fdb show dev "$LINK") in *"$CLUSTER_MAC "*) ;; *) return 1 ;; esac
}

ensure_link() {
    save_link_settings || return 1
    link_settings | apply_settings
    accepts_cluster_mac || bridge fdb add "$CLUSTER_MAC" dev "$LINK" self permanent
}

addresses_there() {
    ip -o addr show dev "$DEVICE" scope global | while read -r _ _ _ address _; do
        echo "$address"
    done
}

ensure_addresses() {
    there=" " wanted=" "
    for address in $(addresses_there); do there="$there$address "; done
    for address in $ADDRESSES; do
        case $address in
            *:*) wanted="$wanted$address/128 " ;;
            *) wanted="$wanted$address/32 " ;;
        esac
    done
    for address in $wanted; do
        case $there in *" $address "*) continue ;; esac
        case $address in
            *:*) ip addr add "$address" dev "$DEVICE" nodad ;;
            *) ip addr add "$address" dev "$DEVICE" ;;
        esac
    done
    for address in $there; do
        case $wanted in *" $address "*) ;; *) ip addr del "$address" dev "$DEVICE" ;; esac
    done
}

# This and what follows is asked at every health check: it starts as few processes as it can. All settings are
# single digits, which is as much as dash reads of such a file.
settings_hold() {
    { link_settings && device_settings; } | while read -r name value; do
        held=
        read -r held <"/proc/sys/net/$name" || :
        [ "$held" = "$value" ] || exit 1
    done
}

addresses_hold() {
    there=" $(addresses_there) "
    count=0
    for address in $there; do count=$((count + 1)); done
    for address in $ADDRESSES; do
        case $there in *[!0-9a-f.:]"$address/"*) count=$((count - 1)) ;; *) return 1 ;; esac
    done
    [ "$count" = 0 ]
}

is_attached() { device_is_up && accepts_cluster_mac && settings_hold && addresses_hold; }

has_inner_mac() { read_word "/sys/class/net/$DEVICE/address" && [ "$WORD" = "$INNER_MAC" ]; }

# The ruleset is loaded by now: no frame of this device leaves with the inner MAC.
ensure_device() {
    ensure_link || return 1
    has_inner_mac || ip link del dev "$DEVICE" 2>/dev/null || :
    if [ ! -d "/sys/class/net/$DEVICE" ]; then
        ip link add link "$LINK" name "$DEVICE" address "$INNER_MAC" type macvlan mode bridge
    fi
    device_settings | apply_settings
    ensure_addresses
    ip link set dev "$DEVICE" up
}

# --- heartbeats ------------------------------------------------------------------------------------

daemon() {
    keepalived --vrrp --use-file="$ROOT/current/keepalived.conf" \
        --pid="$RUN/keepalived.pid" --vrrp_pid="$RUN/vrrp.pid"
}

# Whether the command line of process $1 has $2 in it. The shell leaves out the NULs between the words; the process
# may be gone, or a zombie, which has no command line.
runs_with() {
    words=
    [ -z "$1" ] || { read -r words <"/proc/$1/cmdline"; } 2>/dev/null || :
    case $words in *"$2"*) ;; *) return 1 ;; esac
}

# Ours, not the host's own.
is_daemon() { runs_with "$1" "--use-file=$ROOT/current/keepalived.conf"; }

daemon_pid() { read_word "$RUN/$1.pid" && echo "$WORD"; }

heartbeat_runs() {
    for name in keepalived vrrp; do
        read_word "$RUN/$name.pid"
        is_daemon "$WORD" || return 1
    done
}

watch_runs() {
    read_word "$RUN/watch.pid"
    runs_with "$WORD" "$ROOT/current/node.sh"
}

# A pid file that outlived its process keeps keepalived from starting.
forget_dead_daemons() {
    for name in keepalived vrrp; do
        read_word "$RUN/$name.pid"
        is_daemon "$WORD" || [ ! -e "$RUN/$name.pid" ] || rm -f "$RUN/$name.pid"
    done
}

await_end() {
    tries=100
    while [ "$tries" -gt 0 ] && is_daemon "$1"; do
        sleep 0.05
        tries=$((tries - 1))
    done
    ! is_daemon "$1" || kill -9 "$1" 2>/dev/null || :
}

start_daemons() {
    if under_systemd; then
        install_units "$HERE"
        unlock # the units run this script
        systemctl enable --quiet --now "$UNIT.service" "$UNIT-heartbeat.service" "$UNIT-watch.service"
        return
    fi
    if ! heartbeat_runs; then
        for name in keepalived vrrp; do
            pid=$(daemon_pid "$name")
            ! is_daemon "$pid" || { kill -9 "$pid" && await_end "$pid"; }
        done
        forget_dead_daemons
        arrive
        daemon 9>&-
    fi
    watch_runs || start_watcher
}

start_watcher() {
    setsid sh "$ROOT/current/node.sh" watch 9>&- </dev/null >/dev/null 2>&1 &
    echo $! >"$RUN/watch.pid"
}

# It reads its own script, and its unit, only when it starts.
restart_watcher() {
    if under_systemd; then
        systemctl try-restart "$UNIT-watch.service" || :
    elif watch_runs; then
        kill -- "-$WORD" 2>/dev/null || :
        start_watcher
    fi
}

# "no": they begin again with the host, as long as the change is not confirmed.
stop_daemons() {
    if under_systemd; then
        unlock
        systemctl stop --quiet "$UNIT-watch.service" "$UNIT-heartbeat.service" "$UNIT.service" || :
        [ "$1" = no ] || disable_units
        lock
        return
    fi
    ! watch_runs || kill -- "-$WORD" 2>/dev/null || :
    for name in keepalived vrrp; do
        pid=$(daemon_pid "$name")
        ! is_daemon "$pid" || { kill "$pid" 2>/dev/null && await_end "$pid"; } || :
    done
    rm -f "$RUN/keepalived.pid" "$RUN/vrrp.pid" "$RUN/watch.pid"
}

disable_units() {
    systemctl disable --quiet "$UNIT-watch.service" "$UNIT-heartbeat.service" "$UNIT.service" 2>/dev/null || :
}

# The node ids in a set, with a space around each. "list set" reads this one set.
members_of() {
    for word in $(nft list set netdev "$TABLE" "$1" 2>/dev/null); do
        case $word in 0x*) printf ' %d ' "$word" ;; esac
    done
}

serves() { case $(members_of alive) in *" $NODE_ID "*) ;; *) return 1 ;; esac; }

# A node whose service is not well yet is set up all the same; it joins when the health check says so.
await_serving() {
    tries=$((SERVES_WITHIN_S * 10))
    while [ "$tries" -gt 0 ]; do
        # Asking the kernel takes processes, and before keepalived says so there is little to hear.
        read_word "$RUN/heartbeat"
        if [ "$WORD" = MASTER ] || [ "$((tries % 10))" = 0 ]; then
            ! serves || { echo "serving"; return; }
        fi
        sleep 0.1
        tries=$((tries - 1))
    done
    echo "standing aside: no heartbeat within $SERVES_WITHIN_S s, keepalived says $(cat "$RUN/heartbeat" 2>/dev/null || echo nothing); does the health check succeed?"
}

reload_daemon() {
    if under_systemd; then
        install_units "$HERE"
        unlock # a unit that is not active would be started, and takes the lock
        systemctl reload-or-restart "$UNIT-heartbeat.service"
        lock
    elif heartbeat_runs; then
        kill -HUP "$(daemon_pid keepalived)"
    else
        start_daemons
    fi
}

# A reload takes a heartbeat's time and more: not for a comment, which names the node and the inventory.
heartbeat_changes() {
    [ -e "$RUN/heartbeat.conf" ] || return 0
    [ "$(without_comments "$HERE/keepalived.conf")" != "$(without_comments "$RUN/heartbeat.conf")" ]
}

without_comments() { grep -v '^ *#' "$1"; }

# Those of the generation in folder $1.
install_units() {
    changed=no
    for unit in "$1/$UNIT"*.service; do
        installed=/etc/systemd/system/${unit##*/}
        cmp -s "$unit" "$installed" && continue
        install -m 644 "$unit" "$installed"
        sync -- "$installed"
        changed=yes
    done
    [ "$changed" = no ] || systemctl daemon-reload
}

# Sets UNITS to intact, altered, or none where there is no systemd, or nothing is to run.
look_at_units() {
    UNITS=none
    if ! under_systemd || [ -z "$NOW" ]; then return 0; fi
    UNITS=intact
    for unit in "$HERE/$UNIT"*.service; do
        cmp -s "$unit" "/etc/systemd/system/${unit##*/}" || UNITS=altered
    done
}

# --- draining and switching ------------------------------------------------------------------------

# Sets HELD to the TCP connections to the shared addresses that are on this node: its own sockets, and what it
# passes on under another address, of which only conntrack knows.
count_held() {
    HELD=$({ ss -Htn; cat /proc/net/nf_conntrack 2>/dev/null; } | awk -v shared="$ADDRESSES" -v long="$LONG_ADDRESSES" '
        BEGIN { split(shared, words); for (i in words) local[words[i]] = 1
                split(long, words); for (i in words) target[words[i]] = 1 }
        $1 ~ /^(ESTAB|SYN-RECV|CLOSE-WAIT|FIN-WAIT-1)$/ {
            address = $4
            sub(/:[0-9]+$/, "", address)
            gsub(/^\[|\]$|^\[?::ffff:/, "", address)
            sub(/%.*/, "", address)
            if (address in local) count++
        }
        $3 == "tcp" && $6 ~ /^(SYN_RECV|ESTABLISHED|CLOSE_WAIT|FIN_WAIT)$/ {
            seen = 0
            for (i = 7; i <= NF; i++) {
                if ($i ~ /^src=/) source[++seen] = substr($i, 5)
                if ($i ~ /^dst=/ && seen == 1) destination = substr($i, 5)
            }
            if (destination in target && source[2] != destination) count++
        }
        END { print count + 0 }')
}

has_living_peer() {
    for peer in $(members_of alive); do
        [ "$peer" = "$NODE_ID" ] || return 0
    done
    return 1
}

is_member() { case $(members_of "$1") in *" $NODE_ID "*) ;; *) return 1 ;; esac; }

# Waits until this node's id is in set $1; no longer than heartbeats take to leave.
await_member() {
    tries=$((SERVES_WITHIN_S * 10))
    until is_member "$1"; do
        tries=$((tries - 1))
        [ "$tries" -gt 0 ] || return 1
        sleep 0.1
    done
}

# What is open when a node is stopped is given time to end: its peers take what is new meanwhile. Asked by `down`,
# and by systemd before it stops the heartbeats: whoever comes second does not wait again.
leave() {
    if [ "$PRESERVES" = no ] || has_left_lately || ! is_loaded || ! has_living_peer; then return 0; fi
    if ! is_member alive && ! is_member draining; then return 0; fi
    wait_s=${1:-$DRAIN_BEFORE_STOP_S}
    [ "$wait_s" -le "$DRAIN_BEFORE_STOP_S" ] || wait_s=$DRAIN_BEFORE_STOP_S
    count_held
    if [ "$HELD" = 0 ] || [ "$wait_s" = 0 ]; then return 0; fi
    note "$HELD connections are here: waiting up to $wait_s s for them"
    # It ends by itself if nobody stops the node after all: Ctrl-C, a lost session, another change.
    nft add element netdev "$TABLE" drained "{ $NODE_ID timeout $((wait_s + 15))s }" || return 0
    await_the_last
    : >"$RUN/left"
}

has_left_lately() { [ -n "$(find "$RUN/left" -mmin -2 2>/dev/null)" ]; }

# Ends as well when all others drain: somebody must take what is new.
await_the_last() {
    tries=$((wait_s * 2))
    while [ "$tries" -gt 0 ] && [ "$HELD" -gt 0 ] && has_living_peer; do
        sleep 0.5
        count_held
        tries=$((tries - 1))
    done
    [ "$HELD" = 0 ] || note "$HELD connections are left: they break now"
}

# Before the heartbeats begin: what `leave` has told the kernel is over.
arrive() {
    rm -f "$RUN/left"
    is_drained || without_member drained | nft -f - 2>/dev/null || :
}

uses_new_placement() { case $(nft list set netdev "$TABLE" switched 2>/dev/null) in *"\"$LINK\""*) ;; *) return 1 ;; esac; }

# Sets PLACEMENT: the only one there is, or the one before or after a switch.
look_at_placement() {
    PLACEMENT=only
    [ "$TWO_PLACEMENTS" = yes ] || return 0
    PLACEMENT=before
    ! uses_new_placement || PLACEMENT=after
}

# --- generations -----------------------------------------------------------------------------------

# A change that did not come to its end is seen by `state`, and made again by whoever applies next.
begin_change() { : >"$RUN/changing"; }

finish_change() {
    cp "$HERE/keepalived.conf" "$RUN/heartbeat.conf"
    rm -f "$RUN/changing"
}

change_is_unfinished() {
    find_current
    find_loaded
    is_loaded && { [ -e "$RUN/changing" ] || [ "$LOADED" != "$NOW" ]; }
}

# Lasts, also when the power fails just now.
make_current() {
    ln -sfn "generations/$1" "$ROOT/.current-$$"
    mv -T "$ROOT/.current-$$" "$ROOT/current"
    sync -- "$ROOT"
}

require_link() {
    [ -d "/sys/class/net/$LINK" ] || die "this host has no link $LINK: mend nodes.$NODE.link, or the host"
}

script_of() { printf '%s/generations/%s/node.sh\n' "$ROOT" "$1"; }

frame_of() { sed -n 's/^FRAME=//p' "$(script_of "$1")"; }

same_file() { cmp -s "$HERE/$1" "$2/$1"; }

# --- changes that go back by themselves ------------------------------------------------------------
#
# One file in $ROOT holds TOKEN TIMER PREVIOUS RAN WANTED: who makes the change, which timer ends it, which
# generation was current before (or -), whether it ran, and which one is to run (or -). Its name says how far it is:
#   unconfirmed          made, or being made; the timer runs
#   returning            its time was over, or somebody asked: what ran before is coming back
#   stuck                that has failed, several times
#   confirmed, went-back how the last one ended
# It goes from one to the next by a rename under the lock: of `confirm` and the timer one comes first. It lasts
# when the host does not; what else is needed for the way back is a generation that is not pruned meanwhile.

# Sets OPEN to the name of that file as long as the change is open, and TOKEN, TIMER, PREVIOUS, RAN, WANTED.
find_change() {
    TOKEN='' TIMER='' PREVIOUS='' RAN='' WANTED=''
    for OPEN in unconfirmed returning stuck; do
        [ -e "$ROOT/$OPEN" ] || continue
        # It may just have got its next name.
        { read -r TOKEN TIMER PREVIOUS RAN WANTED <"$ROOT/$OPEN"; } 2>/dev/null && return
    done
    OPEN=
    return 1
}

move_change() {
    mv -f "$ROOT/$1" "$ROOT/$2"
    sync -- "$ROOT"
}

# Sets WORD to its process. Any timer: two of them do no harm, for only the one that the change names takes it back.
timer_runs() {
    read_word "$RUN/timer"
    runs_with "$WORD" /node.shexpire
}

# TOKEN TIMER SECONDS WHO. It must outlive the SSH session that it is started from, and logind, which ends what a
# session has left.
start_timer() {
    timer_runs || WORD=
    timer_before=$WORD
    if under_systemd; then
        systemd-run --quiet --collect --unit="$UNIT-return-$2" /bin/sh "$HERE/node.sh" expire "$@" || return 1
    else
        setsid sh "$HERE/node.sh" expire "$@" 7<&- 8>&- 9>&- </dev/null >/dev/null 2>&1 &
    fi
    tries=500
    until timer_is "$2"; do
        tries=$((tries - 1))
        [ "$tries" -gt 0 ] || return 1
        sleep 0.01
    done
}

end_timer_before() { [ -z "$timer_before" ] || kill -- "-$timer_before" 2>/dev/null || :; }

# A new one has the name of the one before when that is to be over at once.
timer_is() { timer_runs && [ "$WORD" != "$timer_before" ] && runs_with "$WORD" "$1"; }

stop_timer() { ! timer_runs || kill -- "-$WORD" 2>/dev/null || :; }

# Whether `come_back` is at work; it holds this lock from the beginning to the end.
return_is_under_way() { [ -e "$RUN/return" ] && ! flock -n "$RUN/return" true; }

# The deployment lock (hold.sh) is held, and by this token.
holds_deployment() {
    read_word "$RUN/deploy-holder"
    [ "${WORD%% *}" = "$1" ] && ! flock -s -n "$RUN/deploy" true
}

# A change to generation $1 (or -) begins. With TOKEN SECONDS: what runs now is to come back by itself. A second verb under the same token
# (down, then up, where a change cannot be made in place) is part of the same change: it gets a new timer, and goes
# back to what ran before the first. Nobody else changes anything before that is over.
open_change() {
    [ "$RETURNING" = no ] || return 0
    find_change || :
    case $OPEN in
        unconfirmed)
            [ "$TOKEN" = "${2:-}" ] || die "a change is not confirmed yet: wait until it goes back, or:" \
                "sh $HERE/node.sh revert $TOKEN"
            ;;
        returning) die "a change is going back: wait, or: sh $HERE/node.sh revert $TOKEN" ;;
        *)
            find_current
            PREVIOUS=${NOW:--} RAN=no
            ! is_loaded || RAN=yes
            ;;
    esac
    [ $# -eq 1 ] || arm "$2" "$3" "$1"
    rm -f "$ROOT/stuck" "$ROOT/confirmed" "$ROOT/went-back"
}

# The timer first: a change without one would stay for ever.
arm() {
    holds_deployment "$1" || die "the deployment lock is not ours any more: nothing was changed"
    read -r uptime _ </proc/uptime
    timer=$$-${uptime%.*}${uptime#*.}
    start_timer "$1" "$timer" "$2" timer || die "the timer that takes changes back does not start: nothing was changed"
    {
        printf '%s %s %s %s %s\n' "$1" "$timer" "$PREVIOUS" "$RAN" "$3" >"$ROOT/unconfirmed.new" &&
            sync -- "$ROOT/unconfirmed.new"
    } 2>/dev/null || die "$ROOT/unconfirmed.new cannot be written: is there room? Nothing was changed"
    move_change unconfirmed.new unconfirmed
    end_timer_before # not sooner: if this could not be written, the first one is still to come
}

# Asked by watcher and health check: if somebody has ended the timer, the change goes back now.
guard_change() {
    [ -e "$ROOT/unconfirmed" ] || [ -e "$ROOT/returning" ] || return 0
    if timer_runs || return_is_under_way || ! find_change || [ "$OPEN" = stuck ]; then return 0; fi
    note "the timer of an unconfirmed change is gone: going back now"
    start_timer "$TOKEN" "$TIMER" 0 timer || note "the timer does not start"
}

# What a verb of another generation does, it does under locks of its own.
on_the_way_back() {
    TRSCALER_RETURNING=yes sh "$(script_of "$1")" "$2" 8>&- 9>&-
}

# A node goes down on its way only where it must, and where what is to come back can: better the new than none.
go_back() {
    find_current
    [ -e "$(script_of "$NOW")" ] || NOW=${HERE##*/}
    if [ "$RAN" = no ]; then
        on_the_way_back "$NOW" down
        restore_current
        return
    fi
    [ -e "$(script_of "$PREVIOUS")" ] || die "generation $PREVIOUS, which ran before, is not here any more"
    [ "$(frame_of "$NOW")" = "$(frame_of "$PREVIOUS")" ] || on_the_way_back "$NOW" down
    if is_loaded && ! on_the_way_back "$PREVIOUS" swap; then
        on_the_way_back "$PREVIOUS" check
        on_the_way_back "$NOW" down
    fi
    on_the_way_back "$PREVIOUS" up
}

restore_current() {
    if [ "$PREVIOUS" != - ]; then make_current "$PREVIOUS"; else rm -f "$ROOT/current"; fi
}

change_is_back() {
    move_change "$OPEN" went-back
    before=- generation=-
    [ "$RAN" = no ] || { generation=$PREVIOUS && before=$(change_of "$PREVIOUS"); }
    write_history went-back "$before" "$generation" "$1" || note "$ROOT/history cannot be written"
    if [ "$RAN" = yes ]; then note "went back to generation $PREVIOUS"; else note "went back: nothing runs here"; fi
}

# A host that went down with an unconfirmed change: /run, and the timer with it, is new. What ran before is made
# current again before anything is attached, and goes on with the verb.
return_at_boot() {
    if [ "$RETURNING" = yes ] || is_loaded || ! find_change || timer_runs || return_is_under_way; then
        return 0
    fi
    note "a change was not confirmed before this host went down: going back"
    if [ "$RAN" = yes ] && [ ! -e "$(script_of "$PREVIOUS")" ]; then
        note "generation $PREVIOUS is not here any more: nothing is started; apply again"
        exit "$NOT_TO_SERVE"
    fi
    restore_current
    if [ "$RAN" = no ]; then
        ! under_systemd || disable_units
        change_is_back timer
        exit "$NOT_TO_SERVE"
    fi
    ! under_systemd || install_units "$ROOT/generations/$PREVIOUS"
    change_is_back timer
    unlock
    exec sh "$(script_of "$PREVIOUS")" "$1"
}

# --- history ---------------------------------------------------------------------------------------

# EVENT CHANGE GENERATION WHO
write_history() {
    {
        [ ! -e "$ROOT/history" ] || tail -n $((KEPT_LINES - 1)) "$ROOT/history"
        printf '%s %s %s %s %s\n' "$(date -u +%Y-%m-%dT%H:%M:%SZ)" "$@"
    } >"$ROOT/history.new" || return 1
    sync -- "$ROOT/history.new"
    mv -f "$ROOT/history.new" "$ROOT/history"
}

# The change that a generation was applied with last.
change_of() {
    [ -e "$ROOT/history" ] || { echo -; return; }
    awk -v generation="$1" '$2 == "applied" && $4 == generation { change = $3 }
        END { print change == "" ? "-" : change }' "$ROOT/history"
}

# Sets LAST to the last line.
find_last_event() {
    LAST=
    [ ! -e "$ROOT/history" ] || LAST=$(tail -n 1 "$ROOT/history")
}

# Generations that can be gone back to, newest first, then those in use.
kept_generations() {
    [ ! -e "$ROOT/history" ] || awk -v kept="$KEPT_GENERATIONS" '
        { line[NR] = $4 }
        END { for (i = NR; i > 0 && n < kept; i--) if (line[i] != "-" && !seen[line[i]]++) { print line[i]; n++ } }
    ' "$ROOT/history"
    find_change || :
    find_current
    find_loaded
    echo "$NOW $LOADED ${HERE##*/} $PREVIOUS"
}

# What was staged in the last hour may be about to be activated, unless the history says that its time is over.
prune() {
    kept=" $(kept_generations | tr '\n' ' ') "
    for folder in "$ROOT/generations"/*; do
        generation=${folder##*/}
        case $kept in *" $generation "*) continue ;; esac
        was_applied "$generation" || is_old "$folder" || continue
        rm -rf "$folder" "$RUN/expected-$generation-"*
    done
    find "$ROOT/generations" -mindepth 1 -maxdepth 1 -name '.staging-*' -mmin +60 -exec rm -rf {} +
}

was_applied() { grep -qs " $1 [^ ]*\$" "$ROOT/history"; }

is_old() { [ -n "$(find "$1" -maxdepth 0 -mmin +60)" ]; }

# --- verbs -----------------------------------------------------------------------------------------

check() {
    require_link
    require_address
    (cd "$HERE" && sha256sum --check --strict --quiet MANIFEST) || die "files are damaged: apply again"
    check_rulesets
    check_keepalived
    check_health_program
    check_neighbours
    say "generation ${HERE##*/} is good"
}

# Names may lead SSH to another machine than the inventory means. Two that got each other's files would answer for each
# other's buckets, and each would send heartbeats from an address that it has not.
require_address() {
    case $(ip -o -4 addr show dev "$LINK") in *" inet $ADDRESS"[/\ ]*) return ;; esac
    die "this host has no address $ADDRESS on $LINK: does SSH reach the right machine for $NODE? Otherwise mend" \
        "nodes.$NODE.address, or the host"
}

# Loading it for real, in a network of its own, is the better check of rules, and leaves what is to be remembered.
# Where other rules run, the kernel is asked as well what it thinks of all that is to come in their place; where none
# do, nothing is lost with a load that fails.
check_rulesets() {
    keep_listing "$(kept_listing)" || die "the ruleset does not load in a network namespace of its own"
    if is_swapped_in_place; then
        load_swap_transaction -c || die "nft refuses to swap generation $LOADED for this one"
    elif is_loaded && ! same_file ruleset.nft "$ROOT/generations/$LOADED"; then
        load -c -f "$HERE/boot.nft" || die "nft refuses this generation"
    fi
}

is_swapped_in_place() {
    find_loaded
    is_loaded && [ -e "$(script_of "$LOADED")" ] && [ "$(frame_of "$LOADED")" = "$(frame_of "${HERE##*/}")" ] &&
        ! same_file ruleset.nft "$ROOT/generations/$LOADED"
}

# keepalived -t says yes to a file that is not there, and only warns of what it leaves out.
check_keepalived() {
    [ -s "$HERE/keepalived.conf" ] || die "keepalived.conf is missing or empty"
    answer=$(keepalived -t --use-file="$HERE/keepalived.conf" 2>&1) && status=0 || status=$?
    case $answer in *[Dd]isabling* | *[Ss]kipping* | *[Ii]gnoring*) status=1 ;; esac
    [ "$status" = 0 ] || die "keepalived refuses keepalived.conf: $answer"
}

# A program that is not there fails every check: with a typo in the inventory, on all nodes at once.
check_health_program() {
    [ -z "$HEALTH_PROGRAM" ] || [ -x "$HEALTH_PROGRAM" ] ||
        die "there is no program $HEALTH_PROGRAM here: install it, or mend health.command"
}

words_of() { sed -n "s/^$2=//p" "$1" | tr -d "'"; }

# The first word that two lists share.
shared_word() {
    for word in $1; do
        case " $2 " in *" $word "*) echo "$word" && return ;; esac
    done
}

# What other clusters run on this host, and what they may go back to: the scripts of those generations.
scripts_of_others() {
    for other in "${ROOT%/*}"/*; do
        [ "$other" != "$ROOT" ] || continue
        echo "$other/current/node.sh"
        for open in unconfirmed returning; do
            { read -r _ _ previous _ <"$other/$open"; } 2>/dev/null || continue
            echo "$other/generations/$previous/node.sh"
        done
    done
}

# Another cluster on this link: its heartbeats and addresses must not be taken for ours.
check_neighbours() {
    for other in $(scripts_of_others); do
        [ -e "$other" ] || continue
        case $(words_of "$other" FRAME) in "$LINK "*) ;; *) continue ;; esac
        name=$(words_of "$other" CLUSTER)
        vrid=$(shared_word "$VRIDS" "$(words_of "$other" VRIDS)")
        address=$(shared_word "$ADDRESSES" "$(words_of "$other" ADDRESSES)")
        [ -z "$vrid" ] || die "cluster $name has VRRP id $vrid on $LINK already: give this one another" \
            "heartbeat.first_vrid (if that cluster is gone for good: rm -r ${ROOT%/*}/$name)"
        [ -z "$address" ] || die "cluster $name has the address $address on $LINK already"
    done
}

# Two clusters may begin at once: who asks here keeps the others from asking until `unlock_neighbours`, when this
# generation is current and is seen by them. The folder is all clusters' own; while $RUN is in it, it stays.
lock_neighbours() {
    exec 7<"${RUN%/*}"
    flock -w 20 7 || die "another cluster has been starting for 20 s: try again"
    check_neighbours
}

unlock_neighbours() { exec 7<&-; }

claims_anew() {
    for name in VRIDS ADDRESSES; do
        [ "$(words_of "$HERE/node.sh" "$name")" = "$(words_of "$1" "$name")" ] || return 0
    done
    return 1
}

attach() {
    lock
    return_at_boot attach
    attach_here
}

attach_here() {
    require_link
    find_loaded
    if [ "$LOADED" != "${HERE##*/}" ] || ! is_intact; then
        load_boot || die "nft refuses the ruleset"
    fi
    ensure_device
}

detach() {
    lock
    ip link del dev "$DEVICE" 2>/dev/null || :
    ! accepts_cluster_mac || bridge fdb del "$CLUSTER_MAC" dev "$LINK" self || :
    for family in netdev inet; do nft delete table "$family" "$TABLE" 2>/dev/null || :; done
    restore_link_settings
    for name in settings-before listing loaded epoch serial switch left changing heartbeat.conf heartbeat rules-read link; do
        rm -f "$RUN/$name"
    done
}

up() {
    lock
    [ $# -gt 0 ] || return_at_boot up
    require_link
    find_current
    find_loaded
    if [ -n "$NOW" ] && [ "$NOW" != "${HERE##*/}" ] && heartbeat_runs; then
        die "generation $NOW runs here: swap to this one, or take that one down"
    fi
    if is_loaded && [ "$(frame_of "$LOADED")" != "$(frame_of "${HERE##*/}")" ]; then
        die "generation $LOADED is loaded here, with another link, MAC or mode: take it down first"
    fi
    lock_neighbours
    open_change "${HERE##*/}" "$@"
    begin_change
    make_current "${HERE##*/}"
    unlock_neighbours
    attach_here
    start_daemons
    finish_change
    unlock  # the health check takes the lock, and no heartbeat leaves before it has succeeded
    say "up, generation ${HERE##*/}"
    [ $# -gt 0 ] || await # a deployer does it over a new connection, which he makes meanwhile
}

await() { say "$(await_serving)"; }

swap() {
    lock
    find_current
    find_loaded
    if [ ! -e "$(script_of "$NOW")" ] || ! is_loaded; then die "nothing runs here: use up"; fi
    if [ "$(frame_of "$NOW")" != "$(frame_of "${HERE##*/}")" ]; then
        note "link, MAC or mode differ from generation $NOW: needs down and up"
        exit "$CANNOT_SWAP"
    fi
    ! claims_anew "$(script_of "$NOW")" || lock_neighbours
    open_change "${HERE##*/}" "$@"
    begin_change
    metrics_before=$(words_of "$(script_of "$NOW")" METRICS)
    if ! is_intact; then
        load_boot || die "nft refuses the ruleset; generation $NOW stays"
    elif ! same_file ruleset.nft "$ROOT/generations/$LOADED"; then
        load_swap || die "nft refuses the ruleset; generation $NOW stays"
    fi
    remember_generation # also when the rules are the same
    make_current "${HERE##*/}"
    unlock_neighbours
    ensure_device
    ! heartbeat_changes || reload_daemon
    ! under_systemd || install_units "$HERE"
    finish_change
    if [ "$metrics_before" != "$METRICS" ]; then
        restart_watcher
        [ "${metrics_before% *}" = "${METRICS% *}" ] || remove_metrics "$metrics_before"
    fi
    say "swapped, generation ${HERE##*/}"
}

# Heartbeats first: the last one has priority 0, and peers take over while this node still has its rules.
down() {
    [ "$RETURNING" = yes ] || leave "${1:+$LONGEST_ARMED_WAIT_S}"
    lock
    open_change - "$@"
    begin_change
    if [ $# -gt 0 ]; then stop_daemons no; else stop_daemons for-good; fi
    remove_metrics "$METRICS"
    detach
    say "down"
}

confirm() {
    lock
    if ! find_change || [ "$TOKEN" != "$1" ]; then
        ! ended_as confirmed "$1" || { say "confirmed already"; return; }
        ! ended_as went-back "$1" || die "the change has gone back already"
        die "there is no change of $1 to confirm"
    fi
    [ "$OPEN" = unconfirmed ] || die "the change is going back already"
    is_as_wanted || die "the change has not come to its end: it goes back"
    is_loaded || ! under_systemd || disable_units
    move_change unconfirmed confirmed
    stop_timer
    say "confirmed"
}

is_as_wanted() {
    find_current
    find_loaded
    [ ! -e "$RUN/changing" ] || return 1
    [ "$WANTED" != - ] || NOW=-
    [ "${LOADED:--} $NOW" = "$WANTED $WANTED" ]
}

ended_as() {
    read_word "$ROOT/$1"
    [ "${WORD%% *}" = "$2" ]
}

# The timer's time is over at once. The way back is the timer's in any case: it goes on when this session ends,
# and tries again when something fails.
revert() {
    lock
    if ! find_change || [ "$TOKEN" != "$1" ]; then
        say "nothing to go back from"
        exit "$NOTHING_OPEN"
    fi
    [ "$OPEN" = returning ] || move_change "$OPEN" returning
    if ! return_is_under_way; then
        start_timer "$TOKEN" "$TIMER" 0 operator || die "the timer does not start"
        end_timer_before
    fi
    unlock
    await_return "$1"
}

await_return() {
    tries=800
    while find_change && [ "$TOKEN $OPEN" = "$1 returning" ]; do
        tries=$((tries - 1))
        [ "$tries" -gt 0 ] || die "not back yet after 80 s; the node goes on trying"
        sleep 0.1
    done
    ended_as went-back "$1" || die "going back has failed: journalctl -t $UNIT says why; apply again"
    find_current
    if is_loaded; then say "went back to generation $NOW"; else say "went back: nothing runs here"; fi
}

# The timer: TOKEN TIMER SECONDS WHO. It sleeps, so that no clock that is set has a say.
expire() {
    printf '%s\n' "$$" >"$RUN/timer.$$"
    mv -f "$RUN/timer.$$" "$RUN/timer"
    sleep "$3" || : # killed: better too early than never
    for pause_s in 1 2 5 10 30; do
        ! sh "$HERE/node.sh" come_back "$1" "$2" "$4" || exit 0
        note "going back has failed; once more in $pause_s s"
        sleep "$pause_s"
    done
    lock
    find_change || exit 0
    [ "$TIMER" != "$2" ] || move_change "$OPEN" stuck
    note "going back has failed for good: apply again, or: sh $HERE/node.sh revert $1"
}

# The timer's work: TOKEN TIMER WHO. A timer whose change is over, or has got another timer, has nothing to do.
come_back() {
    [ -d "$RUN" ] || mkdir -p "$RUN"
    exec 8>"$RUN/return"
    flock -w 90 8 || die "another return has taken 90 s"
    lock
    find_change || return 0
    [ "$TOKEN $TIMER" = "$1 $2" ] || return 0
    [ "$OPEN" = returning ] || move_change "$OPEN" returning
    OPEN=returning
    unlock
    go_back
    lock
    change_is_back "$3"
}

drain() {
    lock
    yield_to_current drain "$@"
    is_loaded || die "nothing runs here"
    ! is_drained || { say "drained already"; return; }
    [ "${1:-}" = force ] || has_living_peer ||
        die "no other node is alive: nobody would take new connections (drain force does it all the same)"
    write_down drained "$(date -u +%Y-%m-%dT%H:%M:%SZ)" || die "nothing was changed"
    # Deleted first: `leave` may have put it there for a while only.
    if ! { without_member drained && printf 'add element netdev %s drained { %s }\n' "$TABLE" "$NODE_ID"; } | nft -f -; then
        rm -f "$ROOT/drained"
        die "nft refuses it; nothing was changed"
    fi
    unlock
    count_held
    if await_member draining; then
        say "drained: new connections go elsewhere, $HELD are here"
    else
        say "drained, though no heartbeat has left since: this node takes no connections, and keeps none"
    fi
}

undrain() {
    lock
    yield_to_current undrain
    is_loaded || die "nothing runs here"
    is_drained || say "not drained"
    rm -f "$ROOT/drained"
    sync -- "$ROOT"
    without_member drained | nft -f -
    unlock
    await
}

held() {
    count_held
    echo "$HELD"
}

# The switch goes out with this node's next heartbeat, and all nodes with it. On a node that has gone over it only
# makes this last.
switch() {
    find_loaded
    [ "$LOADED" = "${HERE##*/}" ] || die "generation ${HERE##*/} does not run here"
    [ "$TWO_PLACEMENTS" = yes ] || { say "there is one placement: nothing to switch"; return; }
    if ! uses_new_placement; then
        nft add element netdev "$TABLE" pending "{ $NODE_ID }"
        tries=50
        until uses_new_placement; do
            tries=$((tries - 1))
            [ "$tries" -gt 0 ] || { without_member pending | nft -f - && ! uses_new_placement && die "no heartbeat has left for 5 s: nothing was switched"; }
            sleep 0.1
        done
    fi
    lock
    write_down switched "$SWITCH" || die "switched, but a reboot may forget it"
    say "switched"
}

record() {
    lock
    find_current
    find_last_event
    case "$LAST " in
        *" applied $1 $NOW "*) ;;
        *) write_history applied "$1" "${NOW:--}" "$2" ;;
    esac
    prune
    say "recorded"
}

erase() {
    lock
    find_change || :
    [ -z "$OPEN" ] || die "a change is not confirmed yet"
    if is_loaded || heartbeat_runs || [ -e "/sys/class/net/$DEVICE" ]; then die "it runs here: take it down first"; fi
    erase_units
    remove_metrics "$METRICS"
    rm -f "$ROOT/current" # other clusters look for it
    rm -rf "$ROOT" "$RUN"
    rmdir "${ROOT%/*}" "${RUN%/*}" 2>/dev/null || :
    say "erased"
}

erase_units() {
    under_systemd || return 0
    disable_units
    for suffix in -watch -heartbeat ''; do rm -f "/etc/systemd/system/$UNIT$suffix.service"; done
    systemctl daemon-reload
    systemctl reset-failed "$UNIT*" 2>/dev/null || :
}

# The watcher hears of every change of the rules. While it lives they are read only now and then: that is most of
# what a health check costs.
rules_hold() {
    read_word "$RUN/rules-read"
    read_at=${WORD:-0}
    read -r uptime _ </proc/uptime
    if watch_runs && ! link_is_another && [ $((${uptime%.*} - read_at)) -lt "$READ_RULES_EVERY_S" ]; then return 0; fi
    is_intact || return 1
    echo "${uptime%.*}" >"$RUN/rules-read" || :
}

# Another generation may have come while this one waited for the lock: its addresses and rules are the right ones.
yield_to_current() {
    find_current
    [ -z "$NOW" ] || [ "$NOW" = "${HERE##*/}" ] || { unlock && exec sh "$ROOT/current/node.sh" "$@"; }
}

health() {
    guard_change
    # A change that takes long, on a disk that hangs, has the rules in its care. A disk that all nodes share hangs on
    # all: to fail for it would end them all at once.
    if lock_within 5; then
        yield_to_current health
        look_after_rules
        unlock
    else
        note "a change has had $RUN/lock for 5 s: the rules were not looked at"
    fi
    service_is_well
}

look_after_rules() {
    if ! is_loaded && [ ! -d "/sys/class/net/$DEVICE" ]; then die "nothing runs here: use up"; fi
    rules_hold || { heal "$RULESET" || :; exit 1; }
    is_attached || {
        note "addresses or settings are not whole: putting them back"
        ensure_device
        exit 1
    }
}

# Heartbeats go before the host's other work: one that waits for a CPU looks like a node that is gone. The lowest
# real-time priority does; what keepalived starts does not inherit it. The kernel ends who computes for 1 s without a
# pause. Where it is refused they are late when the host is busy, no more.
go_first() {
    pid=$(daemon_pid vrrp)
    is_daemon "$pid" || return 0
    { prlimit --pid "$pid" --rttime=500000:1000000 && chrt --rr --reset-on-fork --pid 1 "$pid"; } 2>/dev/null ||
        note "heartbeats cannot be made real-time"
}

# keepalived: notify TYPE NAME STATE PRIORITY. The kernel's leases decide who answers; a failed node
# gives its own up here as well, in case its farewell could not leave the host.
notify() {
    case ${3:-} in
        FAULT | STOP) give_up_lease ;;
        # Who was asked for while the link was cut would be asked for again after a second only, and answers wait.
        BACKUP | MASTER) ip neigh flush dev "$LINK" nud incomplete 2>/dev/null || : ;;
    esac
    go_first
    [ -d "$RUN" ] || mkdir -p "$RUN"
    printf '%s\n' "${3:-?}" >"$RUN/heartbeat" || :
    note "heartbeat ${3:-?}"
}

give_up_lease() {
    for name in settled alive draining; do
        without_member "$name" "timeout 1s"
    done | nft -f - 2>/dev/null || :
    # Rules of an earlier version have no such set.
    nft flush set netdev "$TABLE" calm 2>/dev/null || :
}

# Added first: to delete what is not there, or has just expired, is an error.
without_member() {
    printf "%s element netdev $TABLE $1 { $NODE_ID %s }\n" add "${2:-}" delete ""
}

# What happens to our rules, and the line that begins with "#" by which nft ends every transaction.
# nft and grep would keep lines back until a buffer is full.
ruleset_events() {
    stdbuf -oL nft monitor | grep --line-buffered -E "^([a-z]+ (table|chain|rule) (netdev|inet) $TABLE( |\$)|#)"
}

watch() {
    echo $$ >"$RUN/watch.pid" || : # systemd keeps it to itself
    if [ -n "$METRICS" ]; then publish_regularly & fi
    while :; do
        mend_current
        ruleset_events | while read -r line; do
            case $line in
                "#"*) [ "${ours:-no}" = no ] || { ours=no && mend_current; } ;;
                *) ours=yes ;;
            esac
        done
        sleep 1
    done
}

mend() {
    guard_change
    lock
    yield_to_current mend
    is_intact || ! is_loaded || heal "$RULESET"
}

# The watcher outlives swaps: what is to be put back is the current generation's, not its own.
mend_current() { sh "$ROOT/current/node.sh" mend || :; }

# Asked of many nodes by one machine, or of many nodes on one: it starts as few processes as it can.
state() {
    look_at_ruleset
    ! change_is_unfinished || RULESET=unfinished
    alive=$(members_of alive)
    look_at_units
    find_change || :
    find_last_event
    echo "generation=$NOW"
    echo "loaded=$LOADED"
    for name in epoch serial heartbeat; do
        read_word "$RUN/$name"
        echo "$name=$WORD"
    done
    echo "ruleset=$RULESET"
    if heartbeat_runs; then echo keepalived=running; else echo keepalived=stopped; fi
    say_serving
    if is_loaded && is_attached; then echo attached=yes; else echo attached=no; fi
    if is_loaded; then echo running=yes; else echo running=no; fi
    echo "units=$UNITS"
    [ "$OPEN" != stuck ] || TOKEN= # nobody takes it back any more
    echo "unconfirmed=$TOKEN"
    echo "return=${OPEN:-none}"
    echo "node_id=$NODE_ID"
    say_members alive "$alive"
    say_members peers_draining "$(members_of draining | sed "s/ $NODE_ID //")"
    say_members hosting "$(members_of hosting)"
    if is_drained; then echo draining=yes; else echo draining=no; fi
    if is_member joining; then echo joining=yes; else echo joining=no; fi
    count_held
    echo "held=$HELD"
    look_at_placement
    echo "placement=$PLACEMENT"
    echo "accepted=$ACCEPTED"
    echo "dropped=$DROPPED"
    LAST=${LAST#* * }
    echo "change=${LAST%% *}"
}

# A node that stands aside has no lease: only of one without is there anything to ask.
say_serving() {
    case $alive in
        *" $NODE_ID "*) echo serving=yes && echo fenced=no && return ;;
    esac
    echo serving=no
    case $(members_of fenced) in *" $NODE_ID "*) echo fenced=yes ;; *) echo fenced=no ;; esac
}

say_members() {
    set_in_order "$2"
    echo "$1=$ORDERED"
}

# Sets ORDERED to numbers up to 255, smallest first.
set_in_order() {
    number=1 ORDERED=
    while [ "$number" -le 255 ]; do
        case $1 in *" $number "*) ORDERED=${ORDERED:+$ORDERED }$number ;; esac
        number=$((number + 1))
    done
}

# --- metrics ---------------------------------------------------------------------------------------

# Prometheus' text format. Samples of a thing that is not known are left out.
metrics() {
    look_at_ruleset
    table=$RULESET
    ! change_is_unfinished || RULESET=unfinished
    look_at_leases
    count_owned
    count_held
    say_node
    say_packets
    say_peers
    say_conditions
    say_connections
}

# Words FOLDER SECONDS. What stays would be collected for ever.
remove_metrics() {
    [ -z "$1" ] || rm -f "${1% *}/$UNIT.prom" "${1% *}/.$UNIT".* 2>/dev/null || :
}

# The file that node_exporter reads is whole at any time: it does not look at names without .prom. mktemp, for the folder may
# not be root's alone. Says on its standard output what is wrong, if anything is.
publish() {
    folder=${METRICS% *}
    [ -n "$folder" ] || die "cluster.yaml has no key metrics"
    [ -d "$folder" ] || { echo "there is no folder $folder" && return 1; }
    text=$(metrics 2>/dev/null) || :
    new=$(mktemp "$folder/.$UNIT.XXXXXX" 2>/dev/null) || new=
    { [ -n "$new" ] && printf '%s\n' "$text" >"$new" && chmod 644 "$new" && mv -fT "$new" "$folder/$UNIT.prom"; } 2>/dev/null ||
        { rm -f "$new" && echo "$folder cannot be written: is there room, and is it root's?" && return 1; }
}

# As long as the current generation writes them as this one does.
publish_regularly() {
    folder=${METRICS% *} told='' late=no
    [ -d "$folder" ] || late=yes
    remove_metrics "$METRICS"
    while [ "$(words_of "$ROOT/current/node.sh" METRICS)" = "$METRICS" ]; do
        trouble=$(sh "$ROOT/current/node.sh" publish 2>&1) || :
        [ "$trouble" = "$told" ] || note "metrics: ${trouble:-written again}"
        told=$trouble
        # To a unit that has begun without the folder it is read-only.
        if [ "$late" = yes ] && [ -d "$folder" ] && under_systemd; then kill "$$"; fi
        sleep "${METRICS#* }"
    done
    remove_metrics "$METRICS"
}

# Sets ALIVE and DRAINING to the node ids in these sets, with a space around each, and AGES to words ID=SECONDS: how
# long ago a heartbeat renewed a peer's lease.
look_at_leases() {
    ALIVE=' ' DRAINING=' ' AGES=' '
    leases=$(for name in alive draining; do nft list set netdev "$TABLE" "$name" 2>/dev/null || :; done | awk '
        function seconds(span, amount, unit, sum) {
            while (span != "") {
                amount = span + 0
                sub(/^[0-9]+/, "", span)
                unit = span
                sub(/[0-9].*/, "", unit)
                span = substr(span, length(unit) + 1)
                sum += amount * length_of[unit]
            }
            return sum
        }
        BEGIN { length_of["ms"] = 0.001; length_of["s"] = 1; length_of["m"] = 60; length_of["h"] = 3600; length_of["d"] = 86400 }
        $1 == "set" { name = $2; next }
        {
            gsub(/[{},=]/, " ")
            for (i = 1; i <= NF; i++) {
                if ($i ~ /^0x/) id = $i
                if ($i == "timeout") lease = seconds($(i + 1))
                if ($i == "expires") printf "%s %s %.3f\n", name, id, lease - seconds($(i + 1))
            }
        }')
    # shellcheck disable=SC2086  # a list of words
    set -- $leases
    while [ $# -ge 3 ]; do
        id=$(($2))
        if [ "$1" = alive ]; then ALIVE="$ALIVE$id "; else DRAINING="$DRAINING$id "; fi
        # Going from one to the other a node is in both.
        case $AGES in *" $id="*) ;; *) AGES="$AGES$id=$3 " ;; esac
        shift 3
    done
}

# Sets OWNED to the number of buckets whose owner this node is: by the loaded orders, and who is alive. To nothing if nobody can tell.
# To count them takes 0.1 s with 32 nodes: the answer is kept as long as nothing of that changes.
count_owned() {
    OWNED=0
    [ "$table" != unreadable ] || OWNED=
    case $table:$ALIVE in missing:* | unreadable:*) return 0 ;; *" $NODE_ID "*) ;; *) return 0 ;; esac
    look_at_placement
    set_in_order "$ALIVE"
    of="$LOADED $PLACEMENT $ORDERED"
    known=
    { read -r OWNED known <"$RUN/owned"; } 2>/dev/null || :
    [ "$known" != "$of" ] || return 0
    OWNED=$(owned_buckets 2>/dev/null) || { OWNED= && return 0; }
    { printf '%s %s\n' "$OWNED" "$of" >"$RUN/owned.$$" && mv -f "$RUN/owned.$$" "$RUN/owned"; } 2>/dev/null || rm -f "$RUN/owned.$$"
}

# The maps of an order stand in its order, first choices first, and each ends with this node's own place.
owned_buckets() {
    maps=rank
    [ "$PLACEMENT" != before ] || maps=before
    awk -v maps="^${maps}[0-9]" -v living="$ORDERED" -v own="$NODE_ID" '
        BEGIN { split(living, ids); for (i in ids) alive[ids[i]] = 1 }
        $1 == "map" { wanted = $2 ~ maps; next }
        wanted && /^ *[0-9]+ :/ {
            gsub(/[:,]/, " ")
            for (i = 1; i < NF; i += 2) if (!($i in owner) && ($(i + 1) in alive)) {
                owner[$i] = $(i + 1)
                if ($(i + 1) == own) count++
            }
        }
        END { print count + 0 }' "$ROOT/generations/$LOADED/ruleset.nft"
}

# NAME TYPE HELP: the samples that follow are of this metric.
metric() {
    METRIC=trscaler_$1
    printf '# HELP %s %s\n# TYPE %s %s\n' "$METRIC" "$3" "$METRIC" "$2"
}

# VALUE [LABELS]
sample() { printf '%s{cluster="%s",node="%s"%s} %s\n' "$METRIC" "$CLUSTER" "$NODE" "${2:+,$2}" "$1"; }

# NAME VALUE HELP
gauge() { metric "$1" gauge "$3" && sample "$2"; }

# Sets BIT to 1 if $1 is among the words $2, to 0 if not.
look_for() { case " $2 " in *" $1 "*) BIT=1 ;; *) BIT=0 ;; esac; }

say_node() {
    find_last_event
    LAST=${LAST#* * }
    labels="node_id=\"$NODE_ID\",generation=\"$LOADED\",change=\"${LAST%% *}\""
    for name in epoch serial; do
        read_word "$RUN/$name"
        labels="$labels,$name=\"$WORD\""
    done
    metric node_info gauge "What is loaded on this node."
    sample 1 "$labels"
    metric ruleset_state gauge "Whether the rules in the kernel are those that were loaded: 1 for the state that it is."
    for name in intact altered missing unfinished unreadable; do
        look_for "$name" "$RULESET"
        sample "$BIT" "state=\"$name\""
    done
    gauge buckets "$BUCKETS" "Parts that the traffic is dealt out in."
    [ -z "$OWNED" ] || gauge owned_buckets "$OWNED" "Buckets whose packets this node answers now."
}

# They begin at 0 again when rules that were gone are loaded.
say_packets() {
    case $table in missing | unreadable) return 0 ;; esac
    metric packets_total counter "Packets to the shared addresses by what became of them here: accepted, dropped since another node answers, kept since their connection is here."
    sample "$ACCEPTED" 'verdict="accepted"'
    sample "$DROPPED" 'verdict="dropped"'
    sample "$KEPT" 'verdict="kept"'
}

# Sets AGE to the age of the lease of node $1, and BIT to 1; to nothing and 0 if it has none.
look_for_age() {
    AGE='' BIT=0
    case $AGES in *" $1="*) AGE=${AGES#*" $1="} && AGE=${AGE%% *} BIT=1 ;; esac
}

say_peers() {
    peers=0 living=0 leaving=0
    metric peer_heard gauge "Whether a heartbeat of this peer has come within its lease."
    for peer in $NODES; do
        [ "$peer" != "$NODE=$NODE_ID" ] || continue
        peers=$((peers + 1))
        look_for_age "${peer#*=}"
        sample "$BIT" "peer=\"${peer%=*}\""
        look_for "${peer#*=}" "$ALIVE"
        living=$((living + BIT))
        look_for "${peer#*=}" "$DRAINING"
        leaving=$((leaving + BIT))
    done
    metric lease_age_seconds gauge "Time since this peer was heard last; after a start, since it was taken for alive."
    for peer in $NODES; do
        look_for_age "${peer#*=}"
        [ "$peer" = "$NODE=$NODE_ID" ] || [ -z "$AGE" ] || sample "$AGE" "peer=\"${peer%=*}\""
    done
    gauge lease_seconds 0.225 "Age at which a lease ends: its node is dead, and others have its buckets."
    gauge peers "$peers" "Other nodes in the inventory."
    gauge peers_alive "$living" "Peers that take their share of the traffic."
    gauge peers_draining "$leaving" "Peers that take no new connections and keep those they have."
}

say_conditions() {
    look_for "$NODE_ID" "$ALIVE"
    gauge serving "$BIT" "Whether this node takes its share of the traffic."
    BIT=0
    ! is_drained || BIT=1
    gauge drained "$BIT" "Whether the operator has drained this node."
    look_for "$NODE_ID" "$DRAINING"
    gauge draining "$BIT" "Whether this node's heartbeats say that it drains."
    for name in joining fenced behind; do
        look_for "$NODE_ID" "$(members_of "$name")"
        case $name in
            joining) gauge joining "$BIT" "Whether this node came back lately: others may keep connections in its buckets." ;;
            fenced) gauge fenced "$BIT" "Whether this node stands aside, for a peer is ahead of it." ;;
            behind) gauge behind "$BIT" "Whether the cluster has moved on without this node." ;;
        esac
    done
    count=0
    for name in $(members_of hosting); do count=$((count + 1)); done
    gauge hosting_peers "$count" "Peers that came back lately: this node may keep connections in their buckets."
    BIT=0
    ! heartbeat_runs || BIT=1
    gauge heartbeat_running "$BIT" "Whether keepalived runs, which sends the heartbeats."
}

say_connections() {
    gauge connections_held "$HELD" "TCP connections to the shared addresses that are on this node."
    # Not by `read`: of these files the kernel gives it the first digit.
    # shellcheck disable=SC2046  # two numbers
    set -- $(cat "$(sysctl_file netfilter/nf_conntrack_count)" "$(sysctl_file netfilter/nf_conntrack_max)" 2>/dev/null)
    [ $# = 2 ] || return 0
    gauge conntrack_entries "$1" "Connections that the host tracks, of all kinds."
    gauge conntrack_entries_limit "$2" "Connections that the host can track at most."
}

usage() {
    sed -n '2,/^set -eu/s/^#\( \|$\)//p' "$0" >&2
    exit 2
}

# TOKEN, SECONDS, CHANGE and WHO become parts of file contents and commands: nothing but the expected.
require_word() { case $2 in "" | *[!$1]*) usage ;; esac; }

verb=${1:-}
[ $# -eq 0 ] || shift
case $verb:$# in
    up:0 | swap:0 | down:0) ;;
    up:2 | swap:2 | down:2) require_word 0-9a-f "$1" && require_word 0-9 "$2" ;;
    confirm:1 | revert:1) require_word 0-9a-f "$1" ;;
    drain:0 | undrain:0 | held:0 | switch:0 | leave:0 | arrive:0) ;;
    drain:1) [ "$1" = force ] || usage ;;
    record:2) require_word 0-9a-f "$1" && require_word A-Za-z0-9@._- "$2" ;;
    expire:4 | come_back:3) ;; # the timer's
    await:0 | erase:0 | check:0 | state:0 | metrics:0 | publish:0 | health:0 | watch:0 | mend:0 | attach:0 | detach:0 | notify:*) ;;
    *) usage ;;
esac
"$verb" "$@"
