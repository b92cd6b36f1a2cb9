-- Views that are several blocks: grouping below the top, set operations, grouping sets, and blocks that are recomputed. After every
-- change each view must be what its query gives, as rows of text.
CREATE SCHEMA blocks;
SET search_path = blocks;
\getenv srcdir PG_ABS_SRCDIR
\set blocks :srcdir '/data/blocks.sql'
\i :blocks
-- What EXPLAIN says, with the view's name in the place of its oid.
CREATE FUNCTION plan(view text, options text) RETURNS SETOF text LANGUAGE plpgsql AS $$
DECLARE
    line text;
BEGIN
    FOR line IN EXECUTE format('EXPLAIN (%s, COSTS OFF) REFRESH MATERIALIZED VIEW %s', options, view) LOOP
        RETURN NEXT regexp_replace(line, 'block_[0-9]+_', 'block_' || view || '_', 'g');
    END LOOP;
END $$;
CREATE TABLE c (id int PRIMARY KEY, region text);
CREATE TABLE o (id int PRIMARY KEY, c int, amount numeric(8, 2), day date);
INSERT INTO c SELECT i, 'region ' || i % 3 FROM generate_series(1, 10) i;
INSERT INTO o SELECT i, i % 11, i % 7, '2026-01-01'::date + i % 5 FROM generate_series(1, 100) i;

-- Grouping below the top (theorem A): joined, grouped again, read twice, of one row, in a leg, through a plain view.
CREATE MATERIALIZED VIEW a_joined WITH (pg_trickle.incremental) AS
    SELECT c.id, c.region, s.n, s.total FROM c JOIN (SELECT c, count(*) n, sum(amount) total FROM o GROUP BY c) s ON s.c = c.id;
CREATE MATERIALIZED VIEW a_grouped_again WITH (pg_trickle.incremental) AS
    SELECT n, count(*) FROM (SELECT c, count(*) n FROM o GROUP BY c) s GROUP BY n;
CREATE MATERIALIZED VIEW a_twice WITH (pg_trickle.incremental) AS
    WITH x AS (SELECT c, sum(amount) t FROM o GROUP BY c) SELECT a.c, b.c AS other, a.t FROM x a JOIN x b ON a.t = b.t AND a.c <> b.c;
CREATE MATERIALIZED VIEW a_one_row WITH (pg_trickle.incremental) AS
    SELECT o.id, o.amount FROM o, (SELECT max(amount) m FROM o) m WHERE o.amount = m.m;
CREATE MATERIALIZED VIEW a_legs WITH (pg_trickle.incremental) AS
    SELECT region FROM c UNION ALL (SELECT DISTINCT day::text FROM o) UNION ALL SELECT max(region) FROM c;
CREATE VIEW per_customer AS SELECT c, count(*) n FROM o GROUP BY c;
CREATE MATERIALIZED VIEW a_plain_view WITH (pg_trickle.incremental) AS SELECT p.n, c.* FROM per_customer p JOIN c ON c.id = p.c;
CREATE MATERIALIZED VIEW a_three_levels WITH (pg_trickle.incremental) AS
    SELECT m.n, max(c.region) FROM (SELECT n, max(c) c FROM (SELECT c, count(*) n FROM o GROUP BY c) s GROUP BY n) m
      JOIN c ON c.id = m.c GROUP BY m.n HAVING count(*) > 0;
CREATE MATERIALIZED VIEW a_distinct_groups WITH (pg_trickle.incremental) AS SELECT DISTINCT count(*), day FROM o GROUP BY day, c;
CREATE MATERIALIZED VIEW a_union_below WITH (pg_trickle.incremental) AS
    SELECT u.id, o.day FROM (SELECT id FROM c UNION SELECT c FROM o) u JOIN o ON o.id = u.id;

-- Set operations (theorem B1): NULLs are equal, rows are counted.
CREATE MATERIALIZED VIEW b_intersect WITH (pg_trickle.incremental) AS SELECT c FROM o INTERSECT SELECT id FROM c;
CREATE MATERIALIZED VIEW b_intersect_all WITH (pg_trickle.incremental) AS SELECT c, day FROM o INTERSECT ALL SELECT c + 1, day FROM o;
CREATE MATERIALIZED VIEW b_except WITH (pg_trickle.incremental) AS SELECT c FROM o EXCEPT SELECT id FROM c WHERE region = 'region 1';
CREATE MATERIALIZED VIEW b_except_all WITH (pg_trickle.incremental) AS SELECT c FROM o EXCEPT ALL SELECT id FROM c;
CREATE MATERIALIZED VIEW b_mixed WITH (pg_trickle.incremental) AS
    (SELECT c FROM o UNION SELECT id FROM c) EXCEPT (SELECT id FROM o WHERE id < 4 INTERSECT SELECT id FROM c);
CREATE MATERIALIZED VIEW b_joined WITH (pg_trickle.incremental) AS
    SELECT q.c, c.region FROM (SELECT c::bigint FROM o EXCEPT ALL SELECT id FROM c) q JOIN c ON c.id = q.c;
-- The row that EXCEPT shows must be one of the left side: where equal is not identical, that block is recomputed.
CREATE MATERIALIZED VIEW b_image WITH (pg_trickle.incremental) AS
    SELECT o.id FROM o JOIN (SELECT amount::numeric n FROM o EXCEPT SELECT 1.0 FROM c) e ON e.n = o.id;

-- Grouping sets (theorem C): masked keys, arguments that are not, equal sets, sets without keys, which always have a group.
CREATE MATERIALIZED VIEW c_rollup WITH (pg_trickle.incremental) AS
    SELECT c, day, GROUPING(c, day), count(*), sum(amount), max(c) FROM o GROUP BY ROLLUP (c, day);
CREATE MATERIALIZED VIEW c_cube WITH (pg_trickle.incremental) AS
    SELECT c, day, GROUPING(day), count(*), sum(c) FILTER (WHERE day > '2026-01-02') FROM o GROUP BY CUBE (c, day) HAVING count(*) > 3;
CREATE MATERIALIZED VIEW c_sets WITH (pg_trickle.incremental) AS
    SELECT c % 2 AS p, c % 2 + 1 AS q, count(*) FROM o GROUP BY GROUPING SETS ((c % 2, day), (), (), (c % 2));
CREATE MATERIALIZED VIEW c_distinct WITH (pg_trickle.incremental) AS
    SELECT DISTINCT c, count(*) FROM o GROUP BY GROUPING SETS ((c, day), (c), ());
CREATE MATERIALIZED VIEW c_joined WITH (pg_trickle.incremental) AS
    SELECT r.day, o.id FROM (SELECT day, count(*) n FROM o GROUP BY ROLLUP (day)) r JOIN o ON o.id = r.n;
CREATE MATERIALIZED VIEW c_dependent WITH (pg_trickle.incremental) AS SELECT id, day, max(c) FROM o GROUP BY GROUPING SETS ((id), (id, day));

-- A block that cannot be maintained is recomputed and compared; the others are not.
CREATE MATERIALIZED VIEW d_window_below WITH (pg_trickle.incremental) AS
    SELECT w.id, c.region FROM (SELECT id, c, row_number() OVER (PARTITION BY c ORDER BY id) rn FROM o) w JOIN c ON c.id = w.c WHERE rn = 1;
CREATE MATERIALIZED VIEW d_window_above WITH (pg_trickle.incremental) AS
    SELECT c, rank() OVER (ORDER BY n) FROM (SELECT c, count(*) n FROM o GROUP BY c) s;
CREATE MATERIALIZED VIEW d_limit WITH (pg_trickle.incremental) AS
    SELECT c.id, l.id AS o FROM c JOIN (SELECT id, c FROM o ORDER BY id DESC LIMIT 5) l ON l.c = c.id;
CREATE MATERIALIZED VIEW d_recursive WITH (pg_trickle.incremental) AS
    WITH RECURSIVE r AS (SELECT 1 AS i UNION ALL SELECT i + 1 FROM r WHERE i < (SELECT max(c) FROM o))
    SELECT r.i, s.n FROM r JOIN (SELECT c, count(*) n FROM o GROUP BY c) s ON s.c = r.i;
CREATE MATERIALIZED VIEW d_leg WITH (pg_trickle.incremental) AS
    SELECT id FROM c UNION ALL (SELECT c FROM o ORDER BY id LIMIT 3) UNION ALL SELECT count(*)::int FROM o;
CREATE MATERIALIZED VIEW d_distinct_on WITH (pg_trickle.incremental) AS
    SELECT DISTINCT ON (region) region, s.n, c.id FROM c JOIN (SELECT c, count(*) n FROM o GROUP BY c) s ON s.c = c.id ORDER BY region, s.n, c.id;
-- An aggregate that looks at the order below it: a hidden relation would not keep it.
CREATE MATERIALIZED VIEW d_order WITH (pg_trickle.incremental) AS
    SELECT c.region, array_agg(s.id) FROM c JOIN (SELECT id, c FROM o ORDER BY id LIMIT 10) s ON s.c = c.id GROUP BY c.region;
SELECT * FROM modes();

INSERT INTO o VALUES (200, 3, 9, '2027-01-01'), (201, NULL, NULL, NULL), (202, NULL, NULL, NULL);
UPDATE o SET amount = amount + 1 WHERE id = 3;
DELETE FROM o WHERE id = 7;
SELECT * FROM settle();
-- Several sources at once, groups that come, go and merge.
DELETE FROM o WHERE c = 4;
UPDATE o SET c = c + 1 WHERE id % 3 = 0;
UPDATE c SET region = 'elsewhere' WHERE id = 3;
INSERT INTO c VALUES (11, NULL);
SELECT * FROM settle();
-- The last row, and the first.
DELETE FROM o;
SELECT * FROM settle();
SELECT * FROM c_rollup;
SELECT * FROM c_sets;
SELECT * FROM a_one_row;
INSERT INTO o VALUES (1, 1, 1, '2026-01-01');
SELECT * FROM settle();
INSERT INTO o SELECT i, i % 11, i % 7, '2026-01-01'::date + i % 5 FROM generate_series(2, 100) i;
DELETE FROM c;
SELECT * FROM settle();
INSERT INTO c SELECT i, 'region ' || i % 3 FROM generate_series(1, 10) i;
SELECT * FROM settle();
-- Whole recomputes fill what the blocks keep as well.
SET pg_trickle.refresh_strategy = full;
UPDATE o SET amount = amount + 1 WHERE id % 5 = 3;
SELECT * FROM settle();
SET pg_trickle.refresh_strategy = delta;
UPDATE o SET amount = amount - 1, c = c + 1 WHERE id % 5 = 3;
SELECT * FROM settle();
SELECT action, status, count(*) > 0 AS any FROM pgtrickle.pgt_refresh_history h JOIN pg_class ON oid = h.pgt_relid
 WHERE relnamespace = 'blocks'::regnamespace GROUP BY 1, 2 ORDER BY 1;

-- The plans: one for each block that changes.
UPDATE o SET amount = 0 WHERE id = 5;
SELECT plan('a_twice', 'VERBOSE');
-- A group whose output stays is silent: nothing is computed above it.
UPDATE o SET day = day + 1 WHERE id = 6;
SELECT plan('a_grouped_again', 'ANALYZE, TIMING OFF, SUMMARY OFF, BUFFERS OFF');

-- What the blocks keep belongs to the view: gone with it, made anew when it is missing.
CREATE FUNCTION kept() RETURNS TABLE (block smallint, is_output boolean, there boolean) LANGUAGE sql AS $$
    SELECT block, is_output, c.oid IS NOT NULL FROM pgtrickle_internal.state s LEFT JOIN pg_class c ON c.oid = s.relid
     WHERE view = to_regclass('blocks.a_joined')::oid ORDER BY 1, 2
$$;
SELECT * FROM kept();
ALTER MATERIALIZED VIEW a_joined SET (pg_trickle.refresh_mode = 'FULL');
SELECT * FROM kept();
ALTER MATERIALIZED VIEW a_joined SET (pg_trickle.refresh_mode = 'AUTO');
SELECT * FROM kept();
SELECT * FROM settle();
SELECT count(*) AS kept FROM pg_class WHERE relname ~ '^(block|state)_[0-9]+_[0-9]+$' AND relkind = 'r' \gset
SET client_min_messages = warning;
DROP TABLE o, c CASCADE;
RESET client_min_messages;
SELECT :kept > 0 AS before, count(*) AS after FROM pg_class WHERE relname ~ '^(block|state)_[0-9]+_[0-9]+$' AND relkind = 'r';
-- Types that a table cannot have a column of, and a subquery that reads nothing.
CREATE TABLE t (a int, b text);
INSERT INTO t VALUES (1, 'x'), (2, 'y');
CREATE MATERIALIZED VIEW e_record WITH (pg_trickle.incremental) AS
    SELECT r IS NULL AS is_null, t.b FROM t JOIN (SELECT a, max(row(b, a)) r FROM t GROUP BY a) s USING (a);
CREATE MATERIALIZED VIEW e_constant WITH (pg_trickle.incremental) AS
    SELECT t.b, s.n FROM t, (SELECT count(*) n FROM (VALUES (1), (2)) v) s;
CREATE MATERIALIZED VIEW e_of_row WITH (pg_trickle.incremental) AS
    SELECT t.b, s.n FROM t, LATERAL (SELECT count(*) n FROM generate_series(1, t.a)) s;
SELECT * FROM modes();
UPDATE t SET a = a + 1;
SELECT * FROM settle();
SET client_min_messages = warning;
DROP SCHEMA blocks CASCADE;
