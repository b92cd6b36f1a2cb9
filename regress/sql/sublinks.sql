-- Subqueries in expressions by delta: rows whose expression a change can reach are computed with the subquery as it is and as it was.
CREATE SCHEMA sublinks;
SET search_path = sublinks;
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

CALL maintain('exists_', 'SELECT a.k, a.v FROM a WHERE EXISTS (SELECT FROM b WHERE b.k = a.k AND b.v >= a.v)');
CALL maintain('not_exists', 'SELECT a.k, a.v FROM a WHERE NOT EXISTS (SELECT FROM b WHERE b.k = a.k)');
CALL maintain('in_', 'SELECT a.k, a.v FROM a WHERE a.k IN (SELECT k FROM b)');
CALL maintain('not_in', 'SELECT a.k, a.v FROM a WHERE a.k NOT IN (SELECT k FROM b)');
CALL maintain('not_in_narrow', 'SELECT a.k, a.v FROM a WHERE a.k NOT IN (SELECT k FROM b WHERE b.v > 2)');
CALL maintain('not_in_correlated', 'SELECT a.k, a.v FROM a WHERE a.v NOT IN (SELECT v FROM b WHERE b.k = a.k)');
CALL maintain('in_shown', 'SELECT a.k, a.k IN (SELECT k FROM b) AS found FROM a');
CALL maintain('in_is_null', 'SELECT a.k FROM a WHERE (a.k IN (SELECT k FROM b)) IS NULL');
CALL maintain('all_', 'SELECT a.k, a.v FROM a WHERE a.v > ALL (SELECT v FROM b WHERE b.k = a.k)');
CALL maintain('any_', 'SELECT a.k, a.v, a.v < ANY (SELECT v FROM b WHERE b.k <> a.k) AS less FROM a');
CALL maintain('or_exists', 'SELECT a.k, a.v FROM a WHERE a.v = 1 OR EXISTS (SELECT FROM b WHERE b.k = a.k)');
CALL maintain('two', 'SELECT a.k FROM a WHERE EXISTS (SELECT FROM b WHERE b.k = a.k) AND NOT EXISTS (SELECT FROM c WHERE c.k = a.v)');
CALL maintain('row_in', 'SELECT a.k FROM a WHERE (a.k, a.v) IN (SELECT k, v FROM b)');
CALL maintain('row_not_in', 'SELECT a.k FROM a WHERE (a.k, a.v) NOT IN (SELECT k, v FROM b)');
CALL maintain('scalar', 'SELECT a.k, (SELECT sum(b.v) FROM b WHERE b.k = a.k) AS s FROM a');
CALL maintain('scalar_one', 'SELECT a.k, (SELECT max(v) FROM c) AS m FROM a');
CALL maintain('scalar_where', 'SELECT a.k FROM a WHERE a.v > (SELECT count(*) FROM b) / 6');
CALL maintain('scalar_min', 'SELECT a.k, a.v FROM a WHERE a.v >= (SELECT min(b.v) FROM b WHERE b.k = a.k AND EXISTS (SELECT FROM c WHERE c.v = b.v))');
CALL maintain('scalar_case', 'SELECT a.k, CASE WHEN a.v > 2 THEN (SELECT count(*) FROM b WHERE b.k < a.k) ELSE -1 END AS n FROM a');
CALL maintain('scalar_having', 'SELECT a.k, (SELECT count(*) FROM b WHERE b.k = a.k HAVING count(*) > 1) AS n FROM a');
CALL maintain('scalar_grouped', 'SELECT a.k FROM a WHERE a.v IN (SELECT count(*) FROM b GROUP BY b.k)');
CALL maintain('array_', 'SELECT a.k, ARRAY(SELECT v FROM b WHERE b.k = a.k ORDER BY v) AS list FROM a');
CALL maintain('two_levels', 'SELECT a.k, a.v FROM a WHERE EXISTS (SELECT FROM b WHERE b.k = a.k AND NOT EXISTS (SELECT FROM c WHERE c.k = b.v AND c.v = a.v))');
CALL maintain('itself', 'SELECT x.k FROM a x WHERE EXISTS (SELECT FROM a y WHERE y.k = x.v AND NOT EXISTS (SELECT FROM a z WHERE z.v = y.k AND z.k = x.k))');
CALL maintain('over_outer', 'SELECT a.k FROM a WHERE a.k IN (SELECT b.k FROM b LEFT JOIN c ON c.k = b.v WHERE c.v IS NULL)');
CALL maintain('under_outer', 'SELECT a.k, b.v FROM a LEFT JOIN b ON a.k = b.k WHERE EXISTS (SELECT FROM c WHERE c.k = b.v) IS NOT TRUE');
CALL maintain('in_on', 'SELECT a.k, b.v FROM a JOIN b ON a.k = b.k AND a.v IN (SELECT v FROM c WHERE c.k = b.k)');
CALL maintain('in_outer_on', 'SELECT a.k, b.v FROM a LEFT JOIN b ON a.k = b.k AND b.v NOT IN (SELECT v FROM c WHERE c.k = a.v)');
CALL maintain('in_union', 'SELECT a.k FROM a WHERE a.k IN (SELECT k FROM b UNION ALL SELECT v FROM c)');
CALL maintain('in_intersect', 'SELECT a.k FROM a WHERE a.k IN (SELECT k FROM b INTERSECT SELECT k FROM c)');
CALL maintain('in_except', 'SELECT a.k FROM a WHERE EXISTS (SELECT v FROM b WHERE b.k = a.k EXCEPT SELECT v FROM c)');
CALL maintain('in_limit', 'SELECT a.k FROM a WHERE a.k IN (SELECT v FROM b ORDER BY v LIMIT 3)');
CALL maintain('exists_limit', 'SELECT a.k FROM a WHERE EXISTS (SELECT v FROM b WHERE b.k = a.k LIMIT 1)');
CALL maintain('in_subquery', 'SELECT s.k, c.v FROM (SELECT k, v FROM a WHERE k IN (SELECT k FROM b)) s JOIN c ON c.k = s.v');
CALL maintain('in_leg', 'SELECT k FROM a WHERE EXISTS (SELECT FROM b WHERE b.k = a.k) UNION ALL SELECT k FROM c WHERE k NOT IN (SELECT v FROM b WHERE v IS NOT NULL)');
CALL maintain('in_filter', 'SELECT a.v, count(*) FILTER (WHERE EXISTS (SELECT FROM b WHERE b.k = a.k)) AS n FROM a GROUP BY a.v');
CALL maintain('in_argument', 'SELECT a.v, sum((SELECT count(*) FROM c WHERE c.k = a.k)) AS n FROM a GROUP BY a.v');
CALL maintain('in_key', 'SELECT a.k IN (SELECT k FROM b) AS found, count(*), min(a.v) FROM a GROUP BY 1');
CALL maintain('in_having', 'SELECT a.v FROM a GROUP BY a.v HAVING bool_or(a.k IN (SELECT k FROM b))');
CALL maintain('in_order', 'SELECT a.v, array_agg(a.k ORDER BY (SELECT count(*) FROM b WHERE b.k = a.k), a.k) AS list FROM a GROUP BY a.v');
CALL maintain('in_function', 'SELECT a.k, g FROM a, generate_series(1, (SELECT count(*) FROM b WHERE b.k = a.k)) g');
CALL maintain('both_sides', 'SELECT (SELECT count(*) FROM b WHERE b.k = a.k) = ANY (SELECT v FROM c) AS found, a.k FROM a');

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

-- What LIMIT lets through changes by a row that is not let through.
DELETE FROM a;
DELETE FROM b;
INSERT INTO a SELECT i FROM generate_series(0, 9) i;
INSERT INTO b SELECT i, i FROM generate_series(1, 9) i;
SELECT * FROM refresh_all();
DELETE FROM b WHERE v = 1;
SELECT * FROM refresh_all();
INSERT INTO b VALUES (0, 0);
SELECT * FROM refresh_all();

-- A delta: rows that a change can reach are looked up by an index; for NOT IN by a hash of the changes.
INSERT INTO a SELECT i, i % 5 FROM generate_series(100, 400) i;
INSERT INTO b SELECT i, i % 5 FROM generate_series(100, 400) i;
ANALYZE a, b, c;
SELECT * FROM refresh_all();
SET enable_hashjoin = off;
SET enable_mergejoin = off;
SET enable_bitmapscan = off;
DELETE FROM b WHERE k = 150;
EXPLAIN (COSTS OFF) REFRESH MATERIALIZED VIEW not_exists;
EXPLAIN (COSTS OFF) REFRESH MATERIALIZED VIEW scalar;
EXPLAIN (COSTS OFF) REFRESH MATERIALIZED VIEW not_in;
SELECT * FROM refresh_all();

-- Partitions and parents with children, alone in a subquery.
RESET enable_hashjoin;
RESET enable_mergejoin;
RESET enable_bitmapscan;
CREATE TABLE large (v bigint);
INSERT INTO large VALUES (9007199254740992), (9007199254740993);
CALL maintain('other_types', 'SELECT a.k FROM a WHERE a.k::bigint IN (SELECT k FROM b UNION ALL SELECT v::bigint FROM c)');
CALL maintain('compared_first', 'SELECT a.k, (SELECT count(*) FROM ((SELECT v FROM large EXCEPT SELECT 9007199254740992) UNION ALL SELECT v::float8 FROM c WHERE c.k = a.k) u) AS n FROM a');
DELETE FROM b WHERE k < 4;
INSERT INTO large VALUES (1);
SELECT * FROM refresh_all();
CREATE TABLE parts (k int, v int) PARTITION BY RANGE (k);
CREATE TABLE parts_1 PARTITION OF parts FOR VALUES FROM (MINVALUE) TO (5) PARTITION BY HASH (v);
CREATE TABLE parts_11 (gone int, v int, k int);
ALTER TABLE parts_11 DROP gone;
ALTER TABLE parts_1 ATTACH PARTITION parts_11 FOR VALUES WITH (MODULUS 1, REMAINDER 0);
CREATE TABLE one_part (k int, v int) PARTITION BY RANGE (k);
CREATE TABLE one_part_1 PARTITION OF one_part DEFAULT;
CREATE TABLE parent (k int, v int);
CREATE TABLE child (more int) INHERITS (parent);
INSERT INTO parts SELECT i % 5, i FROM generate_series(1, 12) i;
INSERT INTO one_part SELECT i % 5, i FROM generate_series(1, 12) i;
INSERT INTO child SELECT i % 5, i, i FROM generate_series(1, 12) i;
TRUNCATE a;
INSERT INTO a SELECT i % 8, i % 3 FROM generate_series(1, 20) i;
CALL maintain('parts_exist', 'SELECT a.k, a.v FROM a WHERE EXISTS (SELECT FROM parts p WHERE p.k = a.k AND p.v > a.v)');
CALL maintain('parts_shown', 'SELECT a.k, EXISTS (SELECT FROM parts p WHERE a.v < p.v AND p.k = a.k) AS found, (SELECT count(*) FROM parts p WHERE p.k = a.v) AS n FROM a');
CALL maintain('parts_in', 'SELECT a.k FROM a WHERE a.k NOT IN (SELECT k FROM parts)');
CALL maintain('part_shown', 'SELECT a.k, EXISTS (SELECT FROM one_part p WHERE a.v < p.v AND p.k = a.k) AS found, (SELECT sum(v) FROM one_part) AS s FROM a');
CALL maintain('parent_shown', 'SELECT a.k, (SELECT max(p.v) FROM parent p WHERE p.k = a.k) AS m FROM a');
DELETE FROM parts WHERE v < 6;
DELETE FROM one_part WHERE v < 6;
DELETE FROM parent WHERE v > 6;
SELECT * FROM refresh_all();
CREATE TABLE parts_2 PARTITION OF parts DEFAULT;
INSERT INTO parts VALUES (7, 7), (7, 7), (NULL, 1);
UPDATE one_part SET k = k + 1;
INSERT INTO parent VALUES (1, 1), (2, NULL);
SELECT * FROM refresh_all();
DELETE FROM parts;
DELETE FROM one_part;
DELETE FROM parent;
SELECT * FROM refresh_all();

-- What cannot be computed again as it was: order, or which of several equal values, decides.
SET client_min_messages = notice;
CREATE TABLE f (k int, x float8, n numeric, t text);
CALL maintain('sum_of_floats', 'SELECT k, (SELECT sum(x) FROM f WHERE f.k = a.k) FROM a');
CALL maintain('any_order', 'SELECT k, (SELECT array_agg(x) FROM f WHERE f.k = a.k) FROM a');
CALL maintain('array_any_order', 'SELECT k, ARRAY(SELECT t FROM f WHERE f.k = a.k) FROM a');
CALL maintain('max_of_numerics', 'SELECT k, (SELECT max(n) FROM f WHERE f.k = a.k) FROM a');
CALL maintain('limit_any', 'SELECT k, (SELECT t FROM f WHERE f.k = a.k LIMIT 1) FROM a');
CALL maintain('limit_ties', 'SELECT k, (SELECT t FROM f WHERE f.k = a.k ORDER BY x LIMIT 1) FROM a');
CALL maintain('distinct_numerics', 'SELECT k FROM a WHERE k IN (SELECT DISTINCT scale(n) FROM (SELECT DISTINCT n FROM f) d)');
CALL maintain('windows', 'SELECT k FROM a WHERE k IN (SELECT row_number() OVER (ORDER BY x) FROM f)');
CALL maintain('having_sublink', 'SELECT k FROM a GROUP BY k HAVING count(*) > (SELECT count(*) FROM f)');
CALL maintain('output_sublink', 'SELECT k, (SELECT count(*) FROM f WHERE f.k = a.k) FROM a GROUP BY k');
CALL maintain('sum_of_integers', 'SELECT k, (SELECT sum(n) FROM f WHERE f.k = a.k) AS s, (SELECT string_agg(t, '','' ORDER BY t) FROM f WHERE f.k = a.k) AS t FROM a');
INSERT INTO f VALUES (1, 0.1, 1.00, 'a'), (1, 0.2, 1, 'b'), (2, 1e20, 3, NULL);
SELECT * FROM refresh_all();

-- The columns by which a change of the inner table finds the rows it reaches.
CREATE TABLE outside (id int PRIMARY KEY, k int, v int);
CREATE TABLE inside (k int, v int);
SELECT * FROM pgtrickle.validate_query('SELECT id FROM outside o WHERE NOT EXISTS (SELECT FROM inside i WHERE i.k = o.k)') WHERE check_name = 'index';
SELECT * FROM pgtrickle.validate_query('SELECT id FROM outside o WHERE v IN (SELECT v FROM inside)') WHERE check_name = 'index';
CREATE INDEX ON outside (k);
SELECT * FROM pgtrickle.validate_query('SELECT id, (SELECT max(v) FROM inside i WHERE i.k = o.k) AS m FROM outside o') WHERE check_name = 'index';

-- A subquery in a policy.
CREATE ROLE regress_sublinks;
GRANT USAGE, CREATE ON SCHEMA sublinks TO regress_sublinks;
GRANT SELECT, TRIGGER ON a, b, c TO regress_sublinks;
ALTER TABLE b ENABLE ROW LEVEL SECURITY;
CREATE POLICY odd ON b USING (k % 2 = 1);
SET ROLE regress_sublinks;
CREATE MATERIALIZED VIEW odd_ones WITH (pg_trickle.incremental) AS SELECT a.k FROM a WHERE a.k IN (SELECT k FROM b);
RESET ROLE;
INSERT INTO b VALUES (51, 1), (52, 1);
INSERT INTO a VALUES (51, 1), (52, 1);
REFRESH MATERIALIZED VIEW odd_ones;
SELECT k FROM odd_ones WHERE k IN (51, 52);
ALTER POLICY odd ON b USING (k IN (SELECT k FROM c));
SET ROLE regress_sublinks;
CREATE MATERIALIZED VIEW by_policy WITH (pg_trickle.incremental) AS SELECT a.k FROM a WHERE a.k IN (SELECT k FROM b);
RESET ROLE;
SELECT relid::regclass, effective_mode, downgrade_reason FROM pgtrickle_internal.stream_table WHERE relid IN ('odd_ones'::regclass, 'by_policy'::regclass) ORDER BY 1;

SET client_min_messages = warning;
DROP SCHEMA sublinks CASCADE;
DROP ROLE regress_sublinks;
