\set ON_ERROR_STOP on
\pset border 2
SET search_path = bench, public;
SET client_min_messages = warning;

CREATE PROCEDURE note(work text, reach text, view text, change text, rounds int, per int DEFAULT 1)
LANGUAGE plpgsql AS $$
DECLARE
    us float8;
BEGIN
    CALL refresh_time(view, change, rounds, us);
    INSERT INTO result (work, us, reach) VALUES (work, us / per, reach);
    COMMIT;
END $$;

CALL unit() \gset

\set one 'UPDATE orders SET amount = amount + 1 WHERE id = 1 + ($1 * 7919) % 1000000'
CALL note('nothing pending', '20', 'v_filter', '', 200);
CALL note('1 row, filter', '100', 'v_filter', :'one', 300);
CALL note('1 row, join', '100', 'v_join', :'one', 300);
CALL note('1 row, group by', '100', 'v_group', :'one', 300);
CALL note('1 row, join + group by', '100', 'v_join_group', :'one', 300);
CALL note('1 row, chain of 3', '250', 'v_chain_3', :'one', 300);
CALL note('1 customer row of 100 orders, join', '1000', 'v_join',
          'UPDATE customers SET name = name || ''x'' WHERE id = 1 + ($1 * 31) % 10000', 100);
CALL note('1,000 rows, join + group by, per row', '8', 'v_join_group',
          'UPDATE orders SET amount = amount + 1 WHERE id % 1000 = $1 % 1000', 9, 1000);
CALL note('10,000 rows, join + group by, per row', '5', 'v_join_group',
          'UPDATE orders SET amount = amount + 1 WHERE id % 100 = $1 % 100', 5, 10000);
CALL note('100,000 rows, join + group by, per row', '4', 'v_join_group',
          'UPDATE orders SET amount = amount + 1 WHERE id % 10 = $1 % 10', 3, 100000);
DO $$
DECLARE
    us float8;
BEGIN
    CALL bench.statement_time('REFRESH MATERIALIZED VIEW bench.plain_join_group', 3, us);
    INSERT INTO bench.result (work, us, reach) VALUES ('REFRESH of the plain twin (whole)', us, '');
END $$;
\echo A plain UPDATE of one row takes :us us.
SELECT work, round(us::numeric, 2) AS "us", round((us / :us)::numeric, 1) AS "in such UPDATEs", reach AS "reach (us)",
       round((nullif(reach, '')::float8 / 5)::numeric, 1) AS "reach (in UPDATEs)"
FROM result ORDER BY number;
