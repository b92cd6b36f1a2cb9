#!/bin/sh
# Delta or recompute: shapes of views by sizes of change, from one row to all. Each is refreshed by delta, by recompute and as the
# refresh itself chooses. What it chooses should never take more than 1.1 of a recompute: such rows end in "!".
# ROWS of the source, ROUNDS of which the best counts (if the delta was chosen in any, the best of these), SHAPES by number, CLOCK=cpu
# for the time of the refreshing process alone, on a machine that does something else besides.
set -eu
cd "$(dirname "$0")"
rows=${ROWS:-200000} rounds=${ROUNDS:-3} clock=${CLOCK:-wall}
psql -Xq -f choice.sql
shapes=${SHAPES:-$(psql -XAtqc 'SELECT number FROM choice.shape ORDER BY number')}
# One session for each shape, which keeps its plans. Small changes take more rounds: their times are short.
for shape in $shapes; do
    {
        echo "SET search_path = choice, public; SET client_min_messages = warning;"
        [ "$clock" = wall ] || echo "SET max_parallel_workers_per_gather = 0;"
        echo "CALL set_up($shape, $rows);"
        for changed in 1 10 100 1000 $((rows / 100)) $((rows / 10)) $((rows / 2)) "$rows"; do
            echo "VACUUM ANALYZE;"
            for round in $(seq "$rounds"); do
                # Each comes first in turn: those behind it find the rows that it left dead.
                case $((round % 3)) in
                    1) strategies="delta full auto" ;;
                    2) strategies="full auto delta" ;;
                    0) strategies="auto delta full" ;;
                esac
                for strategy in $strategies; do
                    echo "CALL change($shape, $changed, $round);"
                    echo "CALL refresh($shape, $changed, '$strategy', '$clock');"
                done
                [ "$changed" -lt $((rows / 10)) ] || echo "VACUUM;"
            done
        done
    } | psql -Xq -v ON_ERROR_STOP=1
done
psql -Xq <<'SQL'
SELECT name AS shape, rows, round(delta::numeric, 1) AS "delta ms", round(recompute::numeric, 1) AS "recompute ms",
       round(ratio::numeric, 2) AS ratio, round(estimated::numeric, 2) AS estimated,
       CASE action WHEN 'DIFFERENTIAL' THEN 'delta' ELSE 'recompute' END AS chosen, round(got::numeric, 2) AS got,
       CASE WHEN got > 1.1 AND auto > recompute + 1 THEN '!' ELSE '' END AS " "
FROM choice.summary ORDER BY number, rows;
SELECT count(*) AS combinations, count(*) FILTER (WHERE got > 1.1 AND auto > recompute + 1) AS "slower than 1.1 of a recompute",
       count(*) FILTER (WHERE got > 1.1 AND auto > recompute + 1 AND action = 'DIFFERENTIAL') AS "of these by delta",
       round(max(got)::numeric, 2) AS worst, count(*) FILTER (WHERE ratio < 0.8 AND action <> 'DIFFERENTIAL') AS "delta missed"
FROM choice.summary;
SQL
