#!/bin/sh
# usage: tps.sh CLIENTS on|off insert|update: pgbench on the plain and the captured table, and on one with idle triggers, in
# turn; medians of their ratios, the plain one of the same turn being 1.
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
    PGOPTIONS="-c synchronous_commit=$commit" pgbench -n -M prepared -c "$clients" -j 2 -T 2 -f "$script" 2>/dev/null |
        awk '/^tps/ { print $3 }'
}
# The order changes: what a turn leaves behind is not always the same one's to bear.
for order in 'plain captured idle' 'idle plain captured' 'captured idle plain' 'plain idle captured' \
    'captured plain idle' 'idle captured plain' 'plain captured idle'; do
    for table in $order; do
        echo "$table $(run "$table")"
    done
    echo turn
done | awk -v k="$kind" -v n="$clients" -v s="$commit" '
    function median(a, n,  i, j, t) {
        for (i = 2; i <= n; i++)
            for (j = i; j > 1 && a[j - 1] > a[j]; j--) { t = a[j]; a[j] = a[j - 1]; a[j - 1] = t }
        return a[int((n + 1) / 2)]
    }
    $1 != "turn" { tps[$1] = $2; next }
    { turns++; plain[turns] = tps["plain"]; c[turns] = tps["captured"] / tps["plain"]; i[turns] = tps["idle"] / tps["plain"] }
    END {
        printf "%s, %d clients, synchronous_commit %s: plain %d tps, captured %.1f %%, idle triggers %.1f %% (reach %d %%)\n",
            k, n, s, median(plain, turns), 100 * median(c, turns), 100 * median(i, turns), s == "on" ? 97 : 93
    }'
rm -f "$script"
