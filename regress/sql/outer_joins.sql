-- Outer joins by delta: the side that may be missing is read as it is and as it was, for the rows that a change can reach.
CREATE SCHEMA outer_joins;
SET search_path = outer_joins;
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

CALL maintain('plain', 'SELECT a.k, a.v, b.v AS bv FROM a LEFT JOIN b ON a.k = b.k');
CALL maintain('narrow', 'SELECT a.k, a.v, b.v AS bv FROM a LEFT JOIN b ON a.k = b.k AND b.v > 1');
CALL maintain('of_left', 'SELECT a.k, b.v FROM a LEFT JOIN b ON a.k = b.k AND a.v > 2');
CALL maintain('unlinked', 'SELECT a.k, b.v FROM a LEFT JOIN b ON b.v > 3');
CALL maintain('unequal', 'SELECT a.k, a.v, b.v AS bv FROM a LEFT JOIN b ON a.k < b.k - 5 AND a.v >= b.v');
CALL maintain('mirrored', 'SELECT a.k, a.v, b.v AS bv FROM b RIGHT JOIN a ON a.k = b.k');
CALL maintain('above', 'SELECT a.k, b.v FROM a LEFT JOIN b ON a.k = b.k WHERE b.v IS NULL OR b.v > 2');
CALL maintain('anti', 'SELECT a.k, a.v FROM a LEFT JOIN b ON a.k = b.k WHERE b.k IS NULL');
CALL maintain('nested', 'SELECT a.k, b.v, c.v AS cv FROM a LEFT JOIN (b LEFT JOIN c ON b.v = c.k) ON a.k = b.k');
CALL maintain('nested_both', 'SELECT a.k, b.v, c.v AS cv FROM a LEFT JOIN (b LEFT JOIN c ON b.v = c.k) ON a.k = b.k AND c.v IS DISTINCT FROM a.v');
CALL maintain('nested_inner', 'SELECT a.k, b.v, c.v AS cv FROM a LEFT JOIN (b JOIN c ON b.v = c.k) ON a.k = b.k AND a.v < coalesce(c.v, 3)');
CALL maintain('linked_later', 'SELECT a.k, b.v, c.v AS cv FROM a LEFT JOIN (b JOIN c ON b.v = c.k) ON a.k = c.v');
CALL maintain('chained', 'SELECT a.k, b.v, c.v AS cv FROM a LEFT JOIN b ON a.k = b.k LEFT JOIN c ON c.k = b.v');
CALL maintain('chained_null', 'SELECT a.k, b.v, c.v AS cv FROM a LEFT JOIN b ON a.k = b.k LEFT JOIN c ON c.k IS NOT DISTINCT FROM b.v');
CALL maintain('then_inner', 'SELECT a.k, b.v, c.v AS cv FROM a LEFT JOIN b ON a.k = b.k JOIN c ON c.k = a.v');
CALL maintain('itself', 'SELECT x.k, y.v, z.v AS zv FROM a x LEFT JOIN a y ON x.k = y.v LEFT JOIN a z ON z.k = y.k');
CALL maintain('subquery', 'SELECT a.k, s.w FROM a LEFT JOIN (SELECT b.k, b.v + 1 AS w, c.v FROM b JOIN c ON c.k = b.v WHERE b.v > 0) s ON a.k = s.k AND s.v < 3');
CALL maintain('constant', 'SELECT a.k, s.one, s.filled FROM a LEFT JOIN (SELECT b.k, 1 AS one, coalesce(b.v, -1) AS filled FROM b) s ON a.k = s.k');
CALL maintain('leg', 'SELECT a.k, u.v FROM a LEFT JOIN (SELECT k, v FROM b UNION ALL SELECT v, k FROM c) u ON a.k = u.k');
CALL maintain('in_leg', 'SELECT a.k, b.v FROM a LEFT JOIN b ON a.k = b.k UNION ALL SELECT c.k, b.v FROM c LEFT JOIN b ON c.v = b.v');
CALL maintain('under_where', 'SELECT a.k, b.v FROM a LEFT JOIN b ON a.k = b.k AND EXISTS (SELECT FROM c WHERE c.k = b.v)');
CALL maintain('whole_row', 'SELECT a.k, b, c IS NULL AS missing FROM a LEFT JOIN b ON a.k = b.k LEFT JOIN c ON c.k = b.v');
CALL maintain('no_column', 'SELECT a.k FROM a LEFT JOIN b ON true');
CALL maintain('counted', 'SELECT a.v, count(*) AS rows, count(b.k) AS partners, sum(b.v), min(b.v), array_agg(b.v ORDER BY b.v) AS list FROM a LEFT JOIN b ON a.k = b.k GROUP BY a.v');
CALL maintain('by_missing', 'SELECT b.v, c.v AS cv, count(*), max(a.k) FROM a LEFT JOIN b ON a.k = b.k LEFT JOIN c ON c.k = b.v GROUP BY b.v, c.v HAVING count(*) > 1');
CALL maintain('distinct_rows', 'SELECT DISTINCT a.k, b.v FROM a LEFT JOIN b ON a.k = b.k');
CALL maintain('using_left', 'SELECT k, a.v, b.v AS bv FROM a LEFT JOIN b USING (k)');
CALL maintain('natural', 'SELECT k, v, list FROM a NATURAL LEFT JOIN b');
CALL maintain('func', 'SELECT a.k, g FROM a LEFT JOIN LATERAL generate_series(1, a.v) g ON g > 1');
CALL maintain('func_of_missing', 'SELECT a.k, b.v, g FROM a LEFT JOIN b ON a.k = b.k LEFT JOIN LATERAL generate_series(1, b.v) g ON true');
CALL maintain('func_inside', 'SELECT a.k, b.v, g FROM a LEFT JOIN (b CROSS JOIN LATERAL generate_series(1, b.v) g) ON a.k = b.k AND g <> a.v');

-- Full joins.
CALL maintain('full_plain', 'SELECT a.k, a.v, b.k AS bk, b.v AS bv FROM a FULL JOIN b ON a.k = b.k');
CALL maintain('full_using', 'SELECT k, a.v, b.v AS bv FROM a FULL JOIN b USING (k)');
CALL maintain('full_three', 'SELECT k, a.v, b.v AS bv, c.v AS cv FROM a FULL JOIN b USING (k) FULL JOIN c USING (k)');
CALL maintain('full_where', 'SELECT a.k, b.v FROM a FULL JOIN b ON a.k = b.k AND a.v = b.v WHERE a.v IS NULL OR b.v IS NULL');
CALL maintain('full_rows', 'SELECT a.k, b FROM (SELECT k, v FROM a) a FULL JOIN b ON a.k = b.k');
CALL maintain('full_nested', 'SELECT a.k, b.v, c.v AS cv FROM a FULL JOIN (b LEFT JOIN c ON b.v = c.k) ON a.k = b.k');
CALL maintain('full_below', 'SELECT c.k, a.k AS ak, b.k AS bk FROM c LEFT JOIN (a FULL JOIN b ON a.k = b.k) ON c.k = b.v');
CALL maintain('full_itself', 'SELECT x.k, x.v, y.k AS yk FROM a x FULL JOIN a y ON x.k = y.v');
CALL maintain('full_counted', 'SELECT coalesce(a.v, b.v) AS v, count(*), count(a.k) AS an, count(b.k) AS bn FROM a FULL JOIN b ON a.k = b.k GROUP BY 1');
CALL maintain('full_never', 'SELECT a.k, b.v FROM a FULL JOIN b ON false');
CALL maintain('full_unread', 'SELECT 1 AS one FROM a FULL JOIN b ON a.k = b.k');
CALL maintain('full_in_sublink', 'SELECT c.k, c.v FROM c WHERE EXISTS (SELECT FROM a FULL JOIN b ON a.k = b.k WHERE coalesce(a.v, b.v) = c.v)');

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
    FOR i IN 1 .. 7 LOOP
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

-- A delta: the rows that a change of b can reach are looked up by the index of a; of c as well, through b.
INSERT INTO a SELECT i, i % 5 FROM generate_series(100, 400) i;
INSERT INTO b SELECT i, i % 5 FROM generate_series(100, 400) i;
INSERT INTO c SELECT i, i % 5 FROM generate_series(0, 300) i;
CREATE INDEX ON b (v);
ANALYZE a, b, c;
SELECT * FROM refresh_all();
SET enable_hashjoin = off;
SET enable_mergejoin = off;
SET enable_bitmapscan = off;
UPDATE b SET v = 300 WHERE k = 150;
EXPLAIN (COSTS OFF) REFRESH MATERIALIZED VIEW plain;
UPDATE c SET v = 7 WHERE k = 250;
EXPLAIN (COSTS OFF, ANALYZE, TIMING OFF, SUMMARY OFF, BUFFERS OFF) REFRESH MATERIALIZED VIEW nested;
SELECT * FROM refresh_all();

-- Values that are equal and not identical: the one that is shown is the one that is there.
CREATE TABLE n (k numeric, v numeric);
INSERT INTO n VALUES (1, 1), (1.0, 1.00), (2, 1.0), (NULL, 1);
CALL maintain('images', 'SELECT x.k, y.k AS yk, y.v FROM n x LEFT JOIN n y ON x.v = y.k');
UPDATE n SET k = 1.000 WHERE k = 1 AND v::text = '1';
SELECT * FROM refresh_all();
UPDATE n SET v = v * 1.0;
SELECT * FROM refresh_all();

-- Partitions, parents and their children, values stored out of line.
CREATE TABLE parts (k int, v text, gone int) PARTITION BY RANGE (k);
CREATE TABLE parts_1 PARTITION OF parts FOR VALUES FROM (MINVALUE) TO (10) PARTITION BY LIST (v);
CREATE TABLE parts_11 (gone int, v text, k int);
ALTER TABLE parts_1 ATTACH PARTITION parts_11 DEFAULT;
CREATE TABLE parts_2 PARTITION OF parts FOR VALUES FROM (10) TO (MAXVALUE);
ALTER TABLE parts DROP COLUMN gone;
CREATE INDEX ON parts (k);
CREATE TABLE parent (k int, v text);
CREATE TABLE child (more int) INHERITS (parent);
CREATE INDEX ON child (k);
INSERT INTO parts SELECT i, repeat(i::text, 3000) FROM generate_series(1, 20) i;
INSERT INTO child SELECT i, repeat(md5(i::text), 200), i FROM generate_series(1, 20) i;
CALL maintain('of_parts', 'SELECT a.k, length(parts.v), parts IS NULL AS missing FROM a LEFT JOIN parts ON parts.k = a.k');
CALL maintain('of_part', 'SELECT a.k, p.v FROM a LEFT JOIN parts_1 p ON p.k = a.k');
CALL maintain('of_parent', 'SELECT parts.k, p.v, p FROM parts LEFT JOIN parent p ON p.k = parts.k');
CALL maintain('of_both', 'SELECT p.k, left(x.v, 5) AS v, left(p.v, 5) AS w FROM parts x FULL JOIN parent p ON p.k = x.k AND p.v <> x.v');
SET enable_partitionwise_join = on;
CALL maintain('by_parts', 'SELECT x.k, y.v FROM parts x LEFT JOIN parts y ON x.k = y.k AND y.v <> ''5''');
UPDATE parts SET k = k + 5;
UPDATE child SET v = 'short' WHERE k = 3;
INSERT INTO parent VALUES (4, NULL), (4, 'x');
INSERT INTO a SELECT i, 0 FROM generate_series(1, 30, 3) i;
SELECT * FROM refresh_all();
DELETE FROM parts WHERE k IN (8, 12);
DELETE FROM parent WHERE k < 5;
UPDATE parts SET v = NULL WHERE k > 20;
SELECT * FROM refresh_all();
RESET enable_partitionwise_join;

-- Of two joins a condition above leaves one an inner join, and the other without its partners.
CALL maintain('reduced', 'SELECT a.k FROM a LEFT JOIN b ON b.k = a.k FULL JOIN b x ON x.k = a.v WHERE b.k IS NOT NULL AND x.k IS NULL');
UPDATE b SET k = k + 1 WHERE k % 2 = 0;
SELECT * FROM refresh_all();

-- Full joins are split, which doubles the work with each: not beyond three in one FROM clause and six in all, however deep.
CREATE TABLE tiny (k int, v int);
INSERT INTO tiny VALUES (1, 1), (2, NULL), (NULL, 3);
CREATE FUNCTION deep(joins int) RETURNS text LANGUAGE sql AS $$
    SELECT CASE joins WHEN 0 THEN 'SELECT k FROM tiny' ELSE
        format('SELECT coalesce(x.k, y.v) AS k FROM (%s) x FULL JOIN tiny y ON x.k = y.k', deep(joins - 1)) END
$$;
CALL maintain('full_four', 'SELECT p.k FROM tiny p FULL JOIN tiny q USING (k) FULL JOIN tiny r USING (k) FULL JOIN tiny s USING (k) FULL JOIN tiny t USING (k)');
CALL maintain('deep_six', deep(6));
CALL maintain('deep_seven', deep(7));
DO $$ BEGIN PERFORM pgtrickle.validate_query(deep(60)); END $$;
UPDATE tiny SET v = 2 WHERE k = 1;
INSERT INTO tiny VALUES (3, 1);
SELECT * FROM refresh_all();
SET client_min_messages = warning;
DROP TABLE tiny CASCADE;
RESET client_min_messages;

-- What has become true of a table since it was last looked at was not true before.
CREATE TABLE later (k int, v int);
INSERT INTO later VALUES (1, 1), (1, 2), (2, NULL);
CALL maintain('of_later', 'SELECT a.k, later.v FROM a LEFT JOIN later ON later.k = a.k');
CALL maintain('not_null', 'SELECT a.k, later.v FROM a LEFT JOIN later ON later.k = a.k AND later.v IS NOT NULL');
DELETE FROM later WHERE v IS DISTINCT FROM 1;
ALTER TABLE later ALTER v SET NOT NULL, ADD PRIMARY KEY (k);
SELECT * FROM refresh_all();

-- Rows that do not fit memory.
SET work_mem = '64kB';
SET hash_mem_multiplier = 1;
UPDATE b SET k = -k, v = v + 1;
UPDATE parts SET v = repeat('long', 1000);
SELECT * FROM refresh_all();

SET client_min_messages = warning;
DROP SCHEMA outer_joins CASCADE;
