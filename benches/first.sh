#!/bin/sh
# The first refresh of a fresh backend, which has neither catalog entries nor plans at hand, beside the first SELECT of the same
# rows by another fresh backend. Medians of 21, in milliseconds, as the client sees them.
set -eu
cd "$(dirname "$0")"
psql -Xq -v rows="${ROWS:-1000000}" -f schema.sql -f views.sql
unit=$(psql -XAtqc 'CALL bench.unit()')

median_of_first() { # STATEMENT, which may use the number of the round as :id
    for id in $(seq 21); do
        psql -XAtqc "UPDATE bench.orders SET amount = amount + 1 WHERE id = $id"
        printf '\\timing on\n%s;\n' "$1" | psql -XAtq -v id="$id" | awk '/^Time:/ { print $2 }'
    done | sort -n | sed -n 11p
}
compare() { # VIEW SELECT
    select=$(median_of_first "$2")
    refresh=$(median_of_first "REFRESH MATERIALIZED VIEW bench.$1")
    awk -v v="$1" -v s="$select" -v r="$refresh" -v u="$unit" 'BEGIN {
        printf "first refresh of %s: %.1f ms, %.2f of a first SELECT (%.1f ms); %.0f UPDATEs of one row (reach 3 ms, 600)\n",
            v, r, r / s, s, r * 1000 / u }'
}
compare v_filter "SELECT id, customer_id, amount FROM bench.orders WHERE status = 'active' AND id = :id"
compare v_join_group 'SELECT c.id, c.name, count(*) AS n, sum(o.amount) AS total
    FROM bench.orders o JOIN bench.customers c ON c.id = o.customer_id WHERE c.id = :id GROUP BY c.id, c.name'
