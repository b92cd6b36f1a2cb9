#!/bin/sh
# The most memory that a backend has of its own (not counting the buffer pool) during one incremental refresh, after more and
# more changed rows, beside a REFRESH of the plain twin: bounded by work_mem, it should not grow with the changes.
set -eu
cd "$(dirname "$0")"
psql -Xq -v rows="${ROWS:-1000000}" -f schema.sql -f views.sql
out=$(mktemp)
trap 'rm -f "$out"' EXIT

peak() { # STATEMENT
    : >"$out"
    psql -XAtq -c "SET work_mem = '16MB'" -c 'SELECT pg_backend_pid()' -c "$1" >"$out" &
    until pid=$(head -1 "$out") && [ -n "$pid" ]; do sleep 0.01; done
    while kill -0 $! 2>/dev/null; do
        sed -n 's/^RssAnon:\s*\([0-9]*\) kB/\1/p' "/proc/$pid/status" 2>/dev/null || true
        sleep 0.01
    done | sort -n | tail -1
    wait $!
}
for view in v_filter v_join v_group v_join_group; do
    psql -Xqc "ALTER MATERIALIZED VIEW bench.$view SET (pg_trickle.refresh_mode = 'differential')"
done
for changed in 10000 100000 1000000; do
    psql -Xqc "UPDATE bench.orders SET amount = amount + 1 WHERE id <= $changed"
    for view in v_filter v_join v_group v_join_group; do
        echo "$changed rows changed, work_mem 16 MB, refresh of $view: $(peak "REFRESH MATERIALIZED VIEW bench.$view") kB"
    done
done
echo "REFRESH of the plain twin: $(peak 'REFRESH MATERIALIZED VIEW bench.plain_join_group') kB"
