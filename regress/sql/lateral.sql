-- LATERAL by delta, and set-returning functions in SELECT lists.
CREATE SCHEMA lateral_items;
SET search_path = lateral_items;
\getenv srcdir PG_ABS_SRCDIR
\set by_delta :srcdir '/data/by_delta.sql'
\set moves :srcdir '/data/moves.sql'
\i :by_delta

CREATE TABLE a (k int, v int, list int[], x numeric);
CREATE TABLE b (k int, v int);
CREATE TABLE c (k int, v int);
CREATE INDEX ON a (k);
CREATE INDEX ON b (k);
CREATE INDEX ON c (k);

CALL maintain('joined', 'SELECT a.k, l.v FROM a, LATERAL (SELECT b.v FROM b WHERE b.k = a.k) l');
CALL maintain('counted', 'SELECT a.k, l.n, l.s FROM a, LATERAL (SELECT count(*) AS n, sum(b.v) AS s FROM b WHERE b.k = a.k) l');
CALL maintain('first_row', 'SELECT a.k, l.v FROM a, LATERAL (SELECT b.v FROM b WHERE b.k = a.k ORDER BY b.v DESC NULLS LAST LIMIT 1) l');
CALL maintain('first_left', 'SELECT a.k, l.v FROM a LEFT JOIN LATERAL (SELECT b.v FROM b WHERE b.k = a.k ORDER BY b.v DESC NULLS LAST LIMIT 1) l ON true');
CALL maintain('second_left', 'SELECT a.k, l.v FROM a LEFT JOIN LATERAL (SELECT b.v FROM b WHERE b.k >= a.k ORDER BY b.v LIMIT 2 OFFSET 1) l ON l.v > a.v');
CALL maintain('ties', 'SELECT a.k, l.v FROM a LEFT JOIN LATERAL (SELECT b.v FROM b WHERE b.k > a.k ORDER BY b.v FETCH FIRST ROW WITH TIES) l ON true');
CALL maintain('left_', 'SELECT a.k, l.v, l.w FROM a LEFT JOIN LATERAL (SELECT b.v, c.v AS w FROM b LEFT JOIN c ON c.k = b.v WHERE b.k = a.k) l ON l.v > 1');
CALL maintain('distinct_', 'SELECT a.k, l.v, count(*) FROM a, LATERAL (SELECT DISTINCT b.v FROM b LEFT JOIN c ON c.k = b.v WHERE b.k = a.k AND c.v IS NULL) l GROUP BY 1, 2');
CALL maintain('grouped', 'SELECT a.k, l.v, l.n FROM a LEFT JOIN LATERAL (SELECT b.v, count(*) AS n FROM b WHERE b.k = a.k GROUP BY b.v HAVING count(*) > 1) l ON l.n > a.v');
CALL maintain('of_union', 'SELECT a.k, l.n FROM a, LATERAL (SELECT count(*) AS n FROM (SELECT k FROM b UNION ALL SELECT v FROM c) u WHERE u.k = a.k) l');
CALL maintain('of_sublink', 'SELECT a.k, l.n FROM a, LATERAL (SELECT count(*) AS n FROM b WHERE b.k = a.k AND b.v IN (SELECT v FROM c WHERE c.k = a.v)) l');
CALL maintain('twice', 'SELECT a.k, l.v, m.n FROM a CROSS JOIN LATERAL (SELECT b.v FROM b WHERE b.k = a.k) l LEFT JOIN LATERAL (SELECT count(*) AS n FROM c WHERE c.k = l.v HAVING count(*) > 0) m ON true');
CALL maintain('of_missing', 'SELECT a.k, b.v, l.n FROM a LEFT JOIN b ON a.k = b.k, LATERAL (SELECT count(*) AS n FROM c WHERE c.k = b.v) l');
CALL maintain('of_row', 'SELECT a.k, l.n, l.m FROM a, LATERAL (SELECT count(*) AS n, max(x) AS m FROM unnest(a.list) x) l');
CALL maintain('of_row_first', 'SELECT a.k, l.x FROM a LEFT JOIN LATERAL (SELECT x FROM unnest(a.list) x ORDER BY x DESC LIMIT 1) l ON true');
CALL maintain('series', 'SELECT k, unnest(list) AS x, generate_series(1, 2) AS g FROM a');
CALL maintain('series_left', 'SELECT x, count(*) FROM (SELECT unnest(a.list) AS x FROM a LEFT JOIN b USING (k)) s GROUP BY x');
CALL maintain('series_missing', 'SELECT a.k, s.g FROM a LEFT JOIN (SELECT k, generate_series(1, v) AS g FROM b) s ON s.k = a.k');

-- From nothing, one side first.
INSERT INTO a SELECT i % 12, i % 5, ARRAY[i % 3, i % 4], i % 3 FROM generate_series(1, 30) i;
SELECT * FROM refresh_all();
INSERT INTO b SELECT nullif(i % 14, 3), i % 5 FROM generate_series(1, 26) i;
SELECT * FROM refresh_all();
INSERT INTO c SELECT nullif(i % 6, 2), nullif(i % 4, 2) FROM generate_series(1, 14) i;
SELECT * FROM refresh_all();

\i :moves

-- At random: several changes between two refreshes.
DO $$
DECLARE
    result record;
BEGIN
    PERFORM setseed(0.5);
    FOR i IN 1 .. 10 LOOP
        IF random() < 0.7 THEN
            DELETE FROM a WHERE random() < 0.2;
            INSERT INTO a SELECT nullif((random() * 8)::int, 5), nullif((random() * 4)::int, 3), ARRAY[1, 2], 0 FROM generate_series(1, 5);
        END IF;
        IF random() < 0.7 THEN
            DELETE FROM b WHERE random() < 0.3;
            INSERT INTO b SELECT nullif((random() * 8)::int, 5), nullif((random() * 4)::int, 3) FROM generate_series(1, 5);
        END IF;
        IF random() < 0.7 THEN
            DELETE FROM c WHERE random() < 0.3;
            INSERT INTO c SELECT nullif((random() * 8)::int, 5), nullif((random() * 4)::int, 3) FROM generate_series(1, 5);
            UPDATE c SET v = v + 1 WHERE random() < 0.2;
        END IF;
        SELECT * INTO result FROM refresh_all();
        IF result.wrong IS NOT NULL OR result.actions LIKE '%FULL%' THEN
            RAISE NOTICE '%: %', i, result;
        END IF;
    END LOOP;
END $$;

-- A delta.
INSERT INTO a SELECT i, i % 5 FROM generate_series(100, 400) i;
INSERT INTO b SELECT i, i % 5 FROM generate_series(100, 400) i;
ANALYZE a, b, c;
SELECT * FROM refresh_all();
SET enable_hashjoin = off;
SET enable_mergejoin = off;
SET enable_bitmapscan = off;
UPDATE b SET v = 9 WHERE k = 150;
EXPLAIN (COSTS OFF) REFRESH MATERIALIZED VIEW first_left;
SELECT * FROM refresh_all();

-- Which rows LATERAL lets through must not depend on their order.
CALL maintain('any_row', 'SELECT a.k, l.v FROM a, LATERAL (SELECT b.v FROM b WHERE b.k = a.k LIMIT 1) l');
CALL maintain('tied', 'SELECT a.k, l.v FROM a, LATERAL (SELECT b.v FROM b WHERE b.k = a.k ORDER BY b.k LIMIT 1) l');
CALL maintain('series_grouped', 'SELECT v, generate_series(1, count(*)) FROM a GROUP BY v');

SET client_min_messages = warning;
DROP SCHEMA lateral_items CASCADE;
