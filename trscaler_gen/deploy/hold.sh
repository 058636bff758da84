# The deployment lock: held for as long as the deployer is heard. Runs as: sh -c THIS sh RUN/CLUSTER TOKEN WHO [SILENCE_S]
# It prints `held` and goes on until standard input ends or no byte has come for SILENCE_S (60); or it prints
# `busy WHO SINCE`, and exits 75. Killed, it leaves its name behind but not the lock: who asks for one asks for both.
# shellcheck shell=sh
PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:$PATH
LC_ALL=C
export PATH LC_ALL
set -eu
umask 077
run=$1 token=$2 who=$3 silence_s=${4:-60}

mkdir -p "$run"
exec 9>>"$run/deploy"
if ! flock -n 9; then
    holder='? '
    [ ! -e "$run/deploy-holder" ] || read -r holder <"$run/deploy-holder" || :
    echo "busy ${holder#* }"
    exit 75
fi
printf '%s %s %s\n' "$token" "$who" "$(date -u +%Y-%m-%dT%H:%M:%SZ)" >"$run/deploy-holder.new"
mv -f "$run/deploy-holder.new" "$run/deploy-holder"
echo held

# dash cannot read with a deadline. No child may keep the lock when this process is killed: 9>&-.
heard() { [ "$(exec 9>&- && timeout "$silence_s" head -c 1 | wc -c)" -eq 1 ]; }
while heard; do :; done
rm -f "$run/deploy-holder"
