#!/bin/sh
# The runtime: from commit to visible, under load, and what a thousand stream tables cost.
set -eu
cd "$(dirname "$0")"
# value STATEMENTS: what they return.
value() { psql -XAtq -c "$1"; }
psql -Xq -c 'ALTER SYSTEM SET pg_trickle.enabled = on' -c "ALTER SYSTEM SET pg_trickle.min_schedule = '1ms'" \
    -c 'SELECT pg_reload_conf()' >/dev/null

psql -Xq -f runtime.sql

# pgbench_tps CLIENTS SECONDS SCRIPT [OPTIONS]
pgbench_tps() {
    clients=$1 seconds=$2 file=$3
    shift 3
    pgbench -n -M prepared -c "$clients" -j 2 -T "$seconds" -f "$file" "$@" 2>/dev/null | awk '/^tps/ { print $3 }'
}
script=$(mktemp)
trap 'rm -f "$script"' EXIT

echo "== 4 writers, 10,000 changed rows a second, join + group by of 10,000 groups, schedule 10ms"
psql -Xq -v rows=1000000 -f schema.sql
cat >"$script" <<'END'
\set first random(1, 999990)
UPDATE bench.orders SET amount = amount + 1 WHERE id BETWEEN :first AND :first + 9;
END
plain=$(pgbench_tps 4 5 "$script" -R 1000)
psql -Xq <<'END'
CREATE MATERIALIZED VIEW bench.loaded WITH (pg_trickle.incremental, pg_trickle.schedule = '10ms') AS
    SELECT c.id, c.name, count(*) AS n, sum(o.amount) AS total
    FROM bench.orders o JOIN bench.customers c ON c.id = o.customer_id GROUP BY c.id, c.name;
END
(pgbench_tps 4 20 "$script" -R 1000 >"$script.tps") &
most=0
for _ in $(seq 36); do
    sleep 0.5
    bytes=$(value 'SELECT max(buffer_bytes) FROM pgtrickle.change_buffer_sizes()')
    [ "$bytes" -le "$most" ] || most=$bytes
done
wait
value "SELECT format('commit to visible: p50 %s ms, p99 %s ms (reach p99 100); writers %s tps of %s; change buffer at most %s',
    round(p50_commit_to_visible_ms::numeric, 1), round(p99_commit_to_visible_ms::numeric, 1),
    round($(cat "$script.tps")), round($plain), pg_size_pretty($most::bigint))
    FROM pgtrickle.st_refresh_stats() WHERE stream_table = 'bench.loaded'"

echo "== sustained changes, the same view, 2 writers of 10,000 rows a statement"
cat >"$script" <<'END'
\set part random(0, 99)
UPDATE bench.orders SET amount = amount + 1 WHERE id % 100 = :part;
END
value "SELECT clock_timestamp()" >"$script.start"
tps=$(pgbench_tps 2 20 "$script")
value "SET statement_timeout = 0; SELECT pgtrickle.wait_until_fresh('bench.loaded', '5min')" >/dev/null
value "SELECT format('%s rows a second changed, all of them visible %s s after the first (reach 100,000 a second)',
    round($tps * 10000), round(extract(epoch FROM clock_timestamp() - '$(cat "$script.start")')::numeric, 1))"
psql -Xq -c 'SET client_min_messages = warning' -c 'DROP SCHEMA bench CASCADE'

# cpu PATTERN: what our processes of this type have used so far, in seconds.
cpu() {
    psql -XAtq -c "SELECT pid FROM pg_stat_activity WHERE backend_type LIKE '$1'" |
        while read -r pid; do awk '{ print $14 + $15 }' "/proc/$pid/stat"; done |
        awk -v hz="$(getconf CLK_TCK)" '{ sum += $1 } END { print sum / hz }'
}
echo "== 1,000 stream tables over 100 sources, schedule 2s"
psql -Xq <<'END'
SET client_min_messages = warning;
CREATE SCHEMA many;
SELECT format('CREATE TABLE many.source_%s (id int PRIMARY KEY, n int)', i) FROM generate_series(1, 100) i \gexec
SELECT format('INSERT INTO many.source_%s SELECT j, j FROM generate_series(1, 1000) j', i) FROM generate_series(1, 100) i \gexec
SELECT format('CREATE MATERIALIZED VIEW many.view_%s_%s WITH (pg_trickle.incremental, pg_trickle.schedule = %L) AS
    SELECT id, n + %2$s AS n FROM many.source_%1$s WHERE n %% 10 <> %2$s', i, j, '2s')
FROM generate_series(1, 100) i, generate_series(1, 10) j \gexec
END
value 'SELECT pgtrickle.wait_until_fresh($$many.view_1_1$$)' >/dev/null
sleep 3
before=$(cpu 'pg_trickle%')
transactions='SELECT pg_stat_force_next_flush(); SELECT sum(xact_commit + xact_rollback) FROM pg_stat_database'
xacts=$(value "$transactions" | tail -1)
sleep 20
spent=$(cpu 'pg_trickle%')
value "SELECT format('nothing changing, 20 s: %s s of CPU, %s transactions beside this look', $spent - $before,
    ($(value "$transactions" | tail -1) - $xacts) - 2)"
cat >"$script" <<'END'
\set source random(1, 100)
\set id random(1, 1000)
UPDATE many.source_:source SET n = n + 1 WHERE id = :id;
END
before=$(cpu 'pg_trickle%')
scheduler=$(cpu 'pg_trickle scheduler')
pgbench -n -c 2 -j 1 -T 20 -R 100 -f "$script" >/dev/null 2>&1
spent=$(cpu 'pg_trickle%')
scheduled=$(cpu 'pg_trickle scheduler')
value "SELECT format('100 changes a second, one of each source, 20 s: scheduler %s %% of a core (reach 10), with workers %s %%;'
    ' commit to visible p99 %s ms (schedule 2000)',
    round((100 * ($scheduled - $scheduler) / 20)::numeric, 1), round((100 * ($spent - $before) / 20)::numeric, 1), round(max(p99_commit_to_visible_ms)::numeric))
    FROM pgtrickle.st_refresh_stats()"
