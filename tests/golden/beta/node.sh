#!/bin/sh
# Cluster golden, node beta: everything that happens on the node itself.
# Made by trscaler-gen 0.1.0 from cluster.yaml: change the inventory, not this file.
#
#   check    give this generation's files to nft and keepalived; changes nothing
#   up       start this generation on a node that runs none
#   swap     let this generation replace the running one; leases are kept (exit 75: needs down and up)
#   down     say goodbye, then take everything away
#   state    what runs, as key=value lines
#   health   keepalived's question: is the ruleset whole, and is the service well?
#   notify   keepalived's news
#   watch    wait for changes of the ruleset, and mend
#   mend     put the ruleset back if somebody has removed or altered it
#   attach   ruleset and addresses alone (what the systemd unit starts); detach takes them away
#
# Needs: a POSIX shell, coreutils, util-linux, nft, iproute2, keepalived.
set -eu

CLUSTER=golden
NODE=beta
NODE_ID=2
EPOCH=1
TAG=50d57f98
TABLE=trscaler_golden
UNIT=trscaler-gen-golden
ADDRESSES='192.0.2.100 192.0.2.101 2001:db8::100'
HAS_IPV6=yes
# All of the cluster, this node's among them.
VRIDS='70 71 72'
HEALTH_PROGRAM=/usr/bin/test
# By then a healthy node has sent its first heartbeat.
SERVES_WITHIN_S=4
# What cannot change under a running cluster: link, macvlan, cluster MAC, inner MAC, mode.
FRAME='bond0.120 vip-golden 02:53:c0:00:02:64 06:53:bc:00:02:64 stealth'

ROOT=/etc/trscaler-gen/golden
RUN=/run/trscaler-gen/golden

# shellcheck disable=SC2086  # a list of words
set_frame() { LINK=$1 DEVICE=$2 CLUSTER_MAC=$3 INNER_MAC=$4 MODE=$5; }
# shellcheck disable=SC2086  # a list of words
set_frame $FRAME

PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
LC_ALL=C
export PATH LC_ALL
umask 077

# This generation's folder, also when called through the link `current`.
HERE=$(readlink -f -- "$0")
HERE=${HERE%/*}

CANNOT_SWAP=75  # EX_TEMPFAIL of sysexits.h

# The user's own question, from cluster.yaml health.command.
service_is_well() {
    timeout -k 1 3 /usr/bin/test -e '/srv/it'"'"'s ready'
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

# One change at a time. Daemons that are started meanwhile must not inherit the lock: 9>&-.
lock() {
    [ "${LOCKED:-no}" = no ] || return 0
    [ -d "$RUN" ] || mkdir -p "$RUN"
    exec 9>"$RUN/lock"
    flock -w 20 9 || die "another change has held $RUN/lock for 20 s"
    LOCKED=yes
}

unlock() {
    exec 9>&-
    LOCKED=no
}

under_systemd() { [ -d /run/systemd/system ]; }

sysctl_file() { printf '/proc/sys/net/%s\n' "$1"; }

hardware_address() { cat "/sys/class/net/$LINK/address"; }

# 1 is IFF_UP.
device_is_up() {
    [ -e "/sys/class/net/$DEVICE/flags" ] && read -r flags <"/sys/class/net/$DEVICE/flags" &&
        [ $((flags & 1)) = 1 ]
}

current_generation() { readlink -f -- "$ROOT/current" 2>/dev/null || :; }

# --- ruleset ---------------------------------------------------------------------------------------

# What nft says of a rule quotes it, and some hold the seed.
load() {
    errors=$(nft -I "$HERE" -D "hwaddr=$(hardware_address)" "$@" 2>&1) && return
    printf '%s\n' "$errors" | sed 's/seed [0-9a-fx]*/seed .../' >&2
    return 1
}

# What the kernel has of our table, without counters and leases. The rank maps are constant: the kernel
# refuses to change them, so the rules are all that can be altered. "list table" reads every map's
# elements even when it is told not to show them; "list ruleset" does not.
listing() {
    nft -s -t list ruleset netdev |
        awk -v table="$TABLE" '$1 == "table" && $3 == table { ours = 1 } ours; /^}/ { ours = 0 }'
}

# What the listing has to be: the same files in a network of their own, where nobody else loads or flushes.
# Taking it from the kernel after a load would take somebody's flush in between for the truth.
expected_listing() {
    # shellcheck disable=SC2016  # the inner shell's words
    unshare --net sh -c 'ip link set dev lo name "$1" && nft -I "$2" -D "hwaddr=$3" -f "$2/ruleset.nft" &&
        nft -s -t list ruleset netdev' sh "$LINK" "$HERE" "$(hardware_address)"
}

remember() {
    expected_listing >"$RUN/listing.new" || return 1
    sort -o "$RUN/listing.new" "$RUN/listing.new"
    mv -f "$RUN/listing.new" "$RUN/listing"
    printf '%s\n' "$EPOCH" >"$RUN/epoch"
    printf '%s\n' "${HERE##*/}" >"$RUN/loaded"
}

is_loaded() { [ -e "$RUN/listing" ]; }

loaded_generation() { cat "$RUN/loaded" 2>/dev/null || :; }

# Sorted: after a swap the same objects stand in another order.
is_intact() { is_loaded && listing | sort | cmp -s - "$RUN/listing"; }

ruleset_state() {
    if is_intact; then
        echo intact
    elif nft list tables netdev | grep -q " $TABLE\$"; then
        echo altered
    else
        echo missing
    fi
}

# Peers count as alive for one lease: a node that knows nothing must not claim everything.
load_boot() {
    load -f "$HERE/boot.nft" || return 1
    remember
}

# Maps and sets of the generation that runs now; ours have another tag.
old_objects() {
    listing |
        awk -v tag="_$TAG" '($1 == "map" || $1 == "set") && $2 ~ /_[0-9a-f]+$/ && index($2, tag) == 0 { print $1, $2 }'
}

# One transaction: the new rules and maps come, the leases stay. Leases of another epoch
# are worth nothing: under another contract a living peer may answer for other buckets. So a node that changes
# its epoch begins like one that boots, and lets its peers hear of it before it takes its lease.
swap_transaction() {
    printf 'include "%s/ruleset.nft"\n' "$HERE"
    if [ "$(cat "$RUN/epoch" 2>/dev/null)" != "$EPOCH" ]; then
        printf 'include "%s/peers.nft"\nadd element netdev %s announcing { %s }\n' "$HERE" "$TABLE" "$NODE_ID"
    fi
}

load_swap() {
    swap_transaction >"$RUN/swap.nft"
    load -f "$RUN/swap.nft" || return 1
    rm -f "$RUN/swap.nft"
    delete_old_objects || note "maps of the ruleset before are left: the next swap deletes them"
    remember
}

# In a transaction of their own: a packet that is halfway through the old rules must still find the old maps.
# Deleted together with the rules they would be empty to it, and the next in line would believe it is the owner.
delete_old_objects() {
    old_objects | while read -r kind name; do
        printf 'delete %s netdev %s %s\n' "$kind" "$TABLE" "$name"
    done | nft -f -
}

# A node without its rules must not keep the addresses up: it would answer questions for the inner MAC.
heal() {
    note "ruleset $1: loading it again"
    [ "$1" != missing ] || ip link set dev "$DEVICE" down 2>/dev/null || :
    if ! load_boot; then
        ip link set dev "$DEVICE" down 2>/dev/null || :
        note "the ruleset does not load, or $RUN is full: addresses are down until that is mended"
        return 1
    fi
    ensure_device
    note "ruleset is whole again"
}

# --- link and addresses ----------------------------------------------------------------------------

# With the rules gone, nobody must take a frame to the cluster MAC for his own. The macvlan hears it as well when
# somebody looks at all frames there, or by chance: its filter for multicast MACs is a hash of 8 bits.
deafness_settings() {
    [ "$MODE" = multicast ] || return 0
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
}

apply_settings() {
    while read -r name value; do
        echo "$value" >"$(sysctl_file "$name")"
    done
}

# What other clusters on this host found before they changed it: "file value".
found_by_others() {
    for found in "${RUN%/*}"/*/settings-before; do
        [ "$found" = "$RUN/settings-before" ] || [ ! -e "$found" ] || cat "$found"
    done
}

original_setting() {
    found_by_others | grep -m 1 "^$1 " | cut -d ' ' -f 2 | grep . || cat "$(sysctl_file "$1")"
}

save_link_settings() {
    [ ! -e "$RUN/settings-before" ] || return 0
    link_settings | while read -r name _; do
        printf '%s %s\n' "$name" "$(original_setting "$name")"
    done >"$RUN/settings-before.new"
    mv -f "$RUN/settings-before.new" "$RUN/settings-before"
}

# What another cluster on this link needs stays; the last to go puts it back.
restore_link_settings() {
    [ -e "$RUN/settings-before" ] || return 0
    while read -r name value; do
        found_by_others | grep -q "^$name " || echo "$value" >"$(sysctl_file "$name")" || :
    done <"$RUN/settings-before"
}

accepts_cluster_mac() {
    case $(bridge fdb show dev "$LINK") in *"$CLUSTER_MAC "*) ;; *) return 1 ;; esac
}

ensure_link() {
    save_link_settings
    link_settings | apply_settings
    accepts_cluster_mac || bridge fdb add "$CLUSTER_MAC" dev "$LINK" self permanent
}

with_prefix() {
    case $1 in
        *:*) echo "$1/128" ;;
        *) echo "$1/32" ;;
    esac
}

addresses_there() {
    ip -o addr show dev "$DEVICE" scope global | while read -r _ _ _ address _; do
        echo "$address"
    done
}

addresses_wanted() {
    for address in $ADDRESSES; do
        with_prefix "$address"
    done
}

ensure_addresses() {
    there=" $(addresses_there | tr '\n' ' ') "
    wanted=" $(addresses_wanted | tr '\n' ' ') "
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

has_inner_mac() { [ "$(cat "/sys/class/net/$DEVICE/address" 2>/dev/null)" = "$INNER_MAC" ]; }

# The ruleset is loaded by now: no frame of this device leaves with the inner MAC.
ensure_device() {
    ensure_link
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

# Ours, not the host's own; a zombie has no command line.
is_daemon() { [ -n "$1" ] && grep -qsF -- "--use-file=$ROOT/current/keepalived.conf" "/proc/$1/cmdline"; }

daemon_pid() { cat "$RUN/$1.pid" 2>/dev/null || :; }

heartbeat_runs() { is_daemon "$(daemon_pid keepalived)" && is_daemon "$(daemon_pid vrrp)"; }

watch_runs() {
    pid=$(daemon_pid watch)
    [ -n "$pid" ] && grep -qsF "$ROOT/current/node.sh" "/proc/$pid/cmdline"
}

# A pid file that outlived its process keeps keepalived from starting.
forget_dead_daemons() {
    for name in keepalived vrrp; do
        is_daemon "$(daemon_pid "$name")" || rm -f "$RUN/$name.pid"
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
        install_units
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
        daemon 9>&-
    fi
    if ! watch_runs; then
        setsid sh "$ROOT/current/node.sh" watch 9>&- </dev/null >/dev/null 2>&1 &
        echo $! >"$RUN/watch.pid"
    fi
}

stop_daemons() {
    if under_systemd; then
        unlock
        systemctl disable --quiet --now "$UNIT-watch.service" "$UNIT-heartbeat.service" "$UNIT.service" || :
        return
    fi
    ! watch_runs || kill -- "-$(daemon_pid watch)" 2>/dev/null || :
    for name in keepalived vrrp; do
        pid=$(daemon_pid "$name")
        ! is_daemon "$pid" || { kill "$pid" 2>/dev/null && await_end "$pid"; } || :
    done
    rm -f "$RUN/keepalived.pid" "$RUN/vrrp.pid" "$RUN/watch.pid"
}

serves() { nft get element netdev "$TABLE" alive "{ $NODE_ID }" >/dev/null 2>&1; }

# A node whose service is not well yet is set up all the same; it joins when the health check says so.
await_serving() {
    tries=$((SERVES_WITHIN_S * 10))
    while [ "$tries" -gt 0 ]; do
        ! serves || { echo "serving"; return; }
        sleep 0.1
        tries=$((tries - 1))
    done
    echo "standing aside: no heartbeat within $SERVES_WITHIN_S s, keepalived says $(cat "$RUN/heartbeat" 2>/dev/null || echo nothing); does the health check succeed?"
}

reload_daemon() {
    if under_systemd; then
        install_units
        unlock # a unit that is not active would be started, and takes the lock
        systemctl reload-or-restart "$UNIT-heartbeat.service"
        lock
    elif heartbeat_runs; then
        kill -HUP "$(daemon_pid keepalived)"
    else
        start_daemons
    fi
}

install_units() {
    changed=no
    for unit in "$HERE/$UNIT"*.service; do
        installed=/etc/systemd/system/${unit##*/}
        cmp -s "$unit" "$installed" && continue
        install -m 644 "$unit" "$installed"
        changed=yes
    done
    [ "$changed" = no ] || systemctl daemon-reload
}

# --- generations -----------------------------------------------------------------------------------

# A change that did not come to its end is seen by `state`, and made again by whoever applies next.
begin_change() { : >"$RUN/changing"; }

finish_change() {
    cp "$HERE/keepalived.conf" "$RUN/heartbeat.conf"
    rm -f "$RUN/changing"
}

change_is_unfinished() { is_loaded && { [ -e "$RUN/changing" ] || [ "$(loaded_generation)" != "${now##*/}" ]; }; }

make_current() {
    ln -sfn "generations/${HERE##*/}" "$ROOT/.current-$$"
    mv -T "$ROOT/.current-$$" "$ROOT/current"
}

require_link() {
    [ -d "/sys/class/net/$LINK" ] || die "this host has no link $LINK: mend nodes.$NODE.link, or the host"
}

frame_of() { sed -n 's/^FRAME=//p' "$1/node.sh"; }

same_file() { cmp -s "$HERE/$1" "$2/$1"; }

# --- verbs -----------------------------------------------------------------------------------------

check() {
    require_link
    (cd "$HERE" && sha256sum --check --strict --quiet MANIFEST) || die "files are damaged: apply again"
    load -c -f "$HERE/boot.nft" || die "nft refuses boot.nft"
    expected_listing >/dev/null || die "the ruleset does not load in a network namespace of its own"
    check_keepalived
    check_health_program
    check_neighbours
    say "generation ${HERE##*/} is good"
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

# Another cluster on this link: its heartbeats and addresses must not be taken for ours.
check_neighbours() {
    for other in "${ROOT%/*}"/*/current/node.sh; do
        if [ "$other" = "$ROOT/current/node.sh" ] || [ ! -e "$other" ]; then continue; fi
        case $(words_of "$other" FRAME) in "$LINK "*) ;; *) continue ;; esac
        name=$(words_of "$other" CLUSTER)
        vrid=$(shared_word "$VRIDS" "$(words_of "$other" VRIDS)")
        address=$(shared_word "$ADDRESSES" "$(words_of "$other" ADDRESSES)")
        [ -z "$vrid" ] || die "cluster $name has VRRP id $vrid on $LINK already: give this one another" \
            "heartbeat.first_vrid (if that cluster is gone for good: rm -r ${ROOT%/*}/$name)"
        [ -z "$address" ] || die "cluster $name has the address $address on $LINK already"
    done
}

attach() {
    lock
    require_link
    if ! is_intact || [ "$(loaded_generation)" != "${HERE##*/}" ]; then
        load_boot || die "nft refuses the ruleset"
    fi
    ensure_device
}

detach() {
    lock
    ip link del dev "$DEVICE" 2>/dev/null || :
    ! accepts_cluster_mac || bridge fdb del "$CLUSTER_MAC" dev "$LINK" self || :
    nft delete table netdev "$TABLE" 2>/dev/null || :
    restore_link_settings
    for name in settings-before listing loaded epoch changing heartbeat.conf heartbeat; do
        rm -f "$RUN/$name"
    done
}

up() {
    lock
    require_link
    now=$(current_generation)
    if [ -n "$now" ] && [ "$now" != "$HERE" ] && heartbeat_runs; then
        die "generation ${now##*/} runs here: swap to this one, or take that one down"
    fi
    if is_loaded && [ "$(frame_of "$ROOT/generations/$(loaded_generation)")" != "$(frame_of "$HERE")" ]; then
        die "generation $(loaded_generation) is loaded here, with another link, MAC or mode: take it down first"
    fi
    begin_change
    make_current
    attach
    start_daemons
    finish_change
    unlock  # the health check takes the lock, and no heartbeat leaves before it has succeeded
    say "up, generation ${HERE##*/}"
    say "$(await_serving)"
}

swap() {
    lock
    old=$(current_generation)
    if [ ! -d "$old" ] || ! is_loaded; then die "nothing runs here: use up"; fi
    if [ "$(frame_of "$old")" != "$(frame_of "$HERE")" ]; then
        note "link, MAC or mode differ from generation ${old##*/}: needs down and up"
        exit "$CANNOT_SWAP"
    fi
    begin_change
    if ! is_intact; then
        load_boot || die "nft refuses the ruleset; generation ${old##*/} stays"
    elif ! same_file ruleset.nft "$ROOT/generations/$(loaded_generation)"; then
        load_swap || die "nft refuses the ruleset; generation ${old##*/} stays"
    fi
    printf '%s\n' "${HERE##*/}" >"$RUN/loaded" # also when the rules are the same
    make_current
    ensure_device
    cmp -s "$HERE/keepalived.conf" "$RUN/heartbeat.conf" || reload_daemon
    ! under_systemd || install_units
    finish_change
    say "swapped, generation ${HERE##*/}"
}

# Heartbeats first: the last one has priority 0, and peers take over while this node still has its rules.
down() {
    lock
    stop_daemons
    lock
    detach
    say "down"
}

health() {
    lock
    if ! is_loaded && [ ! -d "/sys/class/net/$DEVICE" ]; then die "nothing runs here: use up"; fi
    is_intact || { heal "$(ruleset_state)" || :; exit 1; }
    is_attached || {
        note "addresses or settings are not whole: putting them back"
        ensure_device
        exit 1
    }
    unlock
    service_is_well
}

# keepalived: notify TYPE NAME STATE PRIORITY. The kernel's leases decide who answers; a failed node
# gives its own up here as well, in case its farewell could not leave the host.
notify() {
    case ${3:-} in
        FAULT | STOP) give_up_lease ;;
    esac
    mkdir -p "$RUN"
    printf '%s\n' "${3:-?}" >"$RUN/heartbeat" || :
    note "heartbeat ${3:-?}"
}

# Added first: to delete what has just expired is an error.
give_up_lease() {
    printf '%s element netdev %s alive { %s }\n' \
        add "$TABLE" "$NODE_ID timeout 1s" delete "$TABLE" "$NODE_ID" | nft -f - 2>/dev/null || :
}

# What happens to our rules, and the line that begins with "#" by which nft ends every transaction.
# nft and grep would keep lines back until a buffer is full.
ruleset_events() {
    stdbuf -oL nft monitor | grep --line-buffered -E "^([a-z]+ (table|chain|rule) netdev $TABLE( |\$)|#)"
}

watch() {
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
    lock
    is_intact || ! is_loaded || heal "$(ruleset_state)"
}

# The watcher outlives swaps: what is to be put back is the current generation's, not its own.
mend_current() { sh "$ROOT/current/node.sh" mend || :; }

state() {
    now=$(current_generation)
    echo "generation=${now##*/}"
    echo "loaded=$(loaded_generation)"
    echo "epoch=$(cat "$RUN/epoch" 2>/dev/null || :)"
    if change_is_unfinished; then echo ruleset=unfinished; else echo "ruleset=$(ruleset_state)"; fi
    if heartbeat_runs; then echo keepalived=running; else echo keepalived=stopped; fi
    if serves; then echo serving=yes; else echo serving=no; fi
    if is_loaded; then echo running=yes; else echo running=no; fi
}

case ${1:-} in
    check | up | swap | down | state | health | notify | watch | mend | attach | detach) "$@" ;;
    *)
        sed -n '2,/^set -eu/s/^#\( \|$\)//p' "$0" >&2
        exit 2
        ;;
esac
