\echo
\echo '== 5. What it costs, beside a plain materialized view of the same query =========='
\echo
CREATE MATERIALIZED VIEW revenue_plain AS TABLE revenue_by_hand;
CREATE TABLE timings (changed int, stream_ms numeric, plain_ms numeric);

\set changed 1
\ir race.sql
\set changed 10
\ir race.sql
\set changed 1000
\ir race.sql
\set changed 50000
\ir race.sql

\echo '-- Orders changed, and what refreshing took, in milliseconds:'
SELECT to_char(changed, 'FM999,999') AS "orders changed", stream_ms AS "stream table",
       plain_ms AS "plain view", round(plain_ms / stream_ms, 1) AS "times faster"
FROM timings ORDER BY changed;
SELECT count(*) AS "differences between the two" FROM (
  (TABLE revenue EXCEPT ALL TABLE revenue_plain) UNION ALL
  (TABLE revenue_plain EXCEPT ALL TABLE revenue)) AS d;
