#!/bin/sh
# usage: tps.sh CLIENTS on|off insert|update: pgbench on the captured table, on some whose triggers find nothing to do (those of
# statements with transition tables, as capture has them; those of rows), and on one with triggers in PL/pgSQL. What is printed
# is the rate on these, 100 % being that on a table without triggers.
set -eu
clients=$1 commit=$2 kind=$3
tables='plain captured idle idle_rows scripted'
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
for table in $tables; do
    case $kind in
    insert) echo "\\set id random(1000000, 2000000000)
INSERT INTO bench.$table VALUES (:id, :id % 1000, 1, 'x') ON CONFLICT DO NOTHING;" ;;
    update) echo "\\set id random(1, 200000)
UPDATE bench.$table SET amount = amount + 1 WHERE id = :id;" ;;
    esac >"$dir/$table"
done
run() { # SECONDS -f SCRIPT...
    PGOPTIONS="-c synchronous_commit=$commit" pgbench -n -M prepared -c "$clients" -j 2 -T "$@" 2>/dev/null
}

# One client can go from table to table within one run, and spends on each the time it takes there: noise of the machine meets
# all alike.
one() {
    # shellcheck disable=SC2046 # a word each
    run 30 $(for table in $tables; do echo "-f $dir/$table"; done) |
        awk '/^SQL script/ { table = $4 } table != "" && /latency average/ { sub(".*/", "", table); print table, 1000 / $5 }
            END { print "turn" }'
}
# Several get into each other's way, so each table has a run. The order changes: what one leaves behind is not always the same
# one's to bear.
turns() {
    for turn in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16; do
        for table in $tables; do
            echo "$table $(run 1 -f "$dir/$table" | awk '/^tps/ { print $3 }')"
        done
        echo turn
        tables=$(echo "$tables" | awk -v n="$((turn % 4 + 1))" '{ for (i = 0; i < NF; i++) printf "%s ", $((i + n) % NF + 1) }')
    done
}
if [ "$clients" = 1 ]; then one; else turns; fi | awk -v reach="$([ "$commit" = on ] && echo 97 || echo 93)" \
    -v what="$kind, $clients clients, synchronous_commit $commit" '
    function median(table, n,  a, i, j, t) {
        for (i = 1; i <= n; i++)
            a[i] = ratio[table, i]
        for (i = 2; i <= n; i++)
            for (j = i; j > 1 && a[j - 1] > a[j]; j--) { t = a[j]; a[j] = a[j - 1]; a[j - 1] = t }
        return 100 * (a[int((n + 1) / 2)] + a[int((n + 2) / 2)]) / 2
    }
    $1 != "turn" { tps[$1] = $2; next }
    {
        turns++
        plain += tps["plain"]
        for (table in tps)
            ratio[table, turns] = tps[table] / tps["plain"]
    }
    END {
        printf "%s: plain %d tps, captured %.1f %% (reach %d), idle triggers %.1f %%, idle row triggers %.1f %%, triggers in PL/pgSQL %.1f %%\n",
            what, plain / turns, median("captured", turns), reach, median("idle", turns), median("idle_rows", turns),
            median("scripted", turns)
    }'
