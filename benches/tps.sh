#!/bin/sh
# usage: tps.sh CLIENTS on|off insert|update: pgbench on the plain and the captured table, and on one with idle triggers. What
# is printed is the rate on these two, the plain one's being 100 %.
set -eu
clients=$1 commit=$2 kind=$3
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
for table in plain captured idle; do
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
report() { # reads: plain tps, the other two as fractions of it
    awk -v what="$kind, $clients clients, synchronous_commit $commit" -v reach="$([ "$commit" = on ] && echo 97 || echo 93)" '
        { printf "%s: plain %d tps, captured %.1f %%, idle triggers %.1f %% (reach %d %%)\n", what, $1, 100 * $2, 100 * $3, reach }'
}

# One client can go through all three in any order within one run, and spends on each the time it takes there: noise of the
# machine meets all alike.
one() {
    run 20 -f "$dir/plain" -f "$dir/captured" -f "$dir/idle" |
        awk '/^SQL script/ { n++ } n && /latency average/ { ms[n] = $5 } END { print 1000 / ms[1], ms[1] / ms[2], ms[1] / ms[3] }'
}
# Several get into each other's way, so each table has a run; medians of the ratios within a turn. The order changes: what a
# turn leaves behind is not always the same one's to bear.
turns() {
    for order in 'plain captured idle' 'idle plain captured' 'captured idle plain' 'plain idle captured' \
        'captured plain idle' 'idle captured plain' 'plain captured idle'; do
        for table in $order; do
            echo "$table $(run 2 -f "$dir/$table" | awk '/^tps/ { print $3 }')"
        done
        echo turn
    done | awk '
        function median(a, n,  i, j, t) {
            for (i = 2; i <= n; i++)
                for (j = i; j > 1 && a[j - 1] > a[j]; j--) { t = a[j]; a[j] = a[j - 1]; a[j - 1] = t }
            return a[int((n + 1) / 2)]
        }
        $1 != "turn" { tps[$1] = $2; next }
        { turns++; plain[turns] = tps["plain"]; c[turns] = tps["captured"] / tps["plain"]; i[turns] = tps["idle"] / tps["plain"] }
        END { print median(plain, turns), median(c, turns), median(i, turns) }'
}
if [ "$clients" = 1 ]; then one; else turns; fi | report
