#!/bin/sh
# What it takes that a whole partition leaves or comes: the statement with and without capture, and the refresh after it by delta and by
# recompute. RUNS are numbers of partitions and rows of each; of all but the first the moved partition is a larger share of the rest, up
# to what is no longer taken by delta. ROUNDS of which the best counts. CLOCK=cpu for the time of the process alone, on a machine that
# does something else besides.
set -eu
cd "$(dirname "$0")"
for run in ${RUNS:-12x500000 7x100000 5x100000 3x100000 2x100000 2x5000}; do
    partitions=${run%x*} rows=${run#*x}
    psql -Xq -v partitions="$partitions" -v rows="$rows" -f retention.sql
    {
        echo "SET search_path = retention, public; SET client_min_messages = warning;"
        for round in $(seq "${ROUNDS:-3}"); do
            for step in detach attach truncate insert delete insert drop create; do
                echo "CALL change('$step', $rows, $round, '${CLOCK:-wall}'); CALL refresh('$step', $round, '${CLOCK:-wall}'); VACUUM;"
            done
        done
    } | psql -Xq -v ON_ERROR_STOP=1
    psql -Xq -v partitions="$partitions" -v rows="$rows" <<'SQL'
\pset footer off
\echo
SELECT :partitions AS partitions, :rows AS rows, relpages AS pages, round(100.0 / (:partitions - 1), 1) AS "% of the rest"
FROM pg_class WHERE oid = 'retention.captured_1'::regclass;
SELECT step, round(plain::numeric, 1) AS "plain ms", round(captured::numeric, 1) AS "captured ms",
       round(((captured - plain) * 1000 / :rows)::numeric, 2) AS "us a row more", round((wal / :rows)::numeric, 0) AS "WAL a row more",
       round(buffered / :rows, 0) AS "buffer a row"
FROM retention.statements ORDER BY number;
SELECT step, shape, round(delta::numeric, 1) AS "delta ms", round(recompute::numeric, 1) AS "recompute ms", round(ratio::numeric, 2) AS ratio,
       action, split_part(reason, ':', 1) AS reason
FROM retention.refreshes ORDER BY shape, number;
SQL
done
