#!/bin/sh
# usage: tps.sh CLIENTS on|off insert|update: pgbench on the plain and the captured table in turn, ratio of the medians.
set -eu
clients=$1 commit=$2 kind=$3
script=$(mktemp)
run() {
    case $kind in
    insert) echo "\\set id random(1000000, 2000000000)
INSERT INTO bench.$1 VALUES (:id, :id % 1000, 1, 'x') ON CONFLICT DO NOTHING;" >"$script" ;;
    update) echo "\\set id random(1, 200000)
UPDATE bench.$1 SET amount = amount + 1 WHERE id = :id;" >"$script" ;;
    esac
    PGOPTIONS="-c synchronous_commit=$commit" pgbench -n -M prepared -c "$clients" -j 2 -T 3 -f "$script" 2>/dev/null |
        awk '/^tps/ { print $3 }'
}
plain='' captured=''
for _ in 1 2 3 4 5; do
    plain="$plain $(run plain)"
    captured="$captured $(run captured)"
done
median() { printf '%s\n' "$@" | sort -g | sed -n 3p; }
# shellcheck disable=SC2086
p=$(median $plain) c=$(median $captured)
awk -v k="$kind" -v n="$clients" -v s="$commit" -v p="$p" -v c="$c" 'BEGIN {
    printf "%s, %d clients, synchronous_commit %s: plain %d tps, captured %d tps, %.1f %% (reach %d %%)\n",
           k, n, s, p, c, 100 * c / p, s == "on" ? 97 : 93 }'
rm -f "$script"
