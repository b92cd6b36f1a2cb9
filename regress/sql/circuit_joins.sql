-- Joins and subqueries that are none: normalised away, so that a delta maintains the view. Each beside its nearest neighbour that is
-- left as it is.
CREATE SCHEMA circuit_joins;
SET search_path = circuit_joins;
\getenv srcdir PG_ABS_SRCDIR
\set helpers :srcdir '/data/wrong.sql'
\i :helpers

CREATE TABLE o (id int PRIMARY KEY, c int, v int, note text);
CREATE TABLE c (id int PRIMARY KEY, r int, name text, email text UNIQUE, later int UNIQUE DEFERRABLE, partly int, lower text);
CREATE UNIQUE INDEX ON c (partly) WHERE r > 0;
CREATE UNIQUE INDEX ON c (lower(lower));
CREATE TABLE pair (a int, b int, x int, UNIQUE (a, b));
CREATE TABLE r (id int, name text);
INSERT INTO c SELECT i, i % 4, 'c' || i, nullif('e' || i, 'e3'), i, i, 'L' || i FROM generate_series(1, 8) i;
INSERT INTO o SELECT i, nullif(i % 10, 4), i % 7, 'n' || i % 3 FROM generate_series(1, 40) i;
INSERT INTO pair SELECT i % 3, nullif(i / 3, 2), i FROM generate_series(1, 8) i;
INSERT INTO r VALUES (1, 'one'), (1, 'uno'), (2, 'two'), (NULL, 'none');

CREATE FUNCTION maintained(view text, query text) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE format('CREATE MATERIALIZED VIEW %I WITH (pg_trickle.incremental) AS %s', view, query);
    RETURN (SELECT format('%-12s %s %s', view, effective_mode, split_part(downgrade_reason, ':', 1))
            FROM pgtrickle_internal.stream_table WHERE relid = view::regclass);
END $$;
CREATE FUNCTION refreshed(view text, OUT action text, OUT wrong bigint) LANGUAGE plpgsql AS $$
DECLARE
    last bigint := (SELECT max(refresh_id) FROM pgtrickle.pgt_refresh_history WHERE pgt_relid = view::regclass);
BEGIN
    PERFORM pgtrickle.refresh_stream_table(view);
    action := coalesce((SELECT h.action FROM pgtrickle.pgt_refresh_history h WHERE pgt_relid = view::regclass AND refresh_id > last
                        ORDER BY refresh_id DESC LIMIT 1), 'nothing');
    wrong := wrong(view::regclass);
END $$;
-- All views after a change: those that are wrong, and how the others were refreshed.
CREATE FUNCTION check_all() RETURNS TABLE (actions text, wrong bigint, views text) LANGUAGE sql AS $$
    SELECT r.action, sum(r.wrong), string_agg(pgt_name, ' ' ORDER BY pgt_name)
    FROM pgtrickle.pgt_stream_tables, refreshed(pgt_name) r WHERE pgt_schema = 'circuit_joins' GROUP BY 1 ORDER BY 1
$$;
-- Deltas only, where there are any.
SET pg_trickle.refresh_strategy = delta;

-- A strict condition on the side that may be missing.
SELECT maintained('strict', 'SELECT o.id, c.name FROM o LEFT JOIN c ON c.id = o.c WHERE c.r > 1');
SELECT maintained('strict_not', 'SELECT o.id, c.name FROM o LEFT JOIN c ON c.id = o.c WHERE coalesce(c.r, 2) > 1');
SELECT maintained('is_null', 'SELECT o.id, c.name FROM o LEFT JOIN c ON c.id = o.c WHERE c.id IS NULL');
SELECT maintained('mirrored', 'SELECT o.id, c.name FROM c RIGHT JOIN o ON c.id = o.c WHERE c.r IN (1, 2) GROUP BY o.id, c.name');
SELECT maintained('full_both', 'SELECT o.id, c.name FROM o FULL JOIN c ON c.id = o.c WHERE c.r > 0 AND o.v > 1');
SELECT maintained('full_one', 'SELECT o.id, c.name FROM o FULL JOIN c ON c.id = o.c WHERE o.v > 1');
SELECT maintained('next_join', 'SELECT o.id, c.name, r.name AS r FROM o LEFT JOIN c ON c.id = o.c JOIN r ON r.id = c.r');
SELECT maintained('in_subquery', 'SELECT x.id, count(*) FROM (SELECT o.id, c.r FROM o LEFT JOIN c ON c.id = o.c WHERE c.r > 0) x JOIN r ON r.id = x.r GROUP BY x.id');
SELECT maintained('whole_row', 'SELECT o.id, p FROM o LEFT JOIN c p ON p.id = o.c WHERE p.r > 1');

-- At most one partner, of which nothing is read.
SELECT maintained('unused', 'SELECT o.id, o.v FROM o LEFT JOIN c ON c.id = o.c');
SELECT maintained('unused_sum', 'SELECT o.v, count(*), sum(o.id) FROM o LEFT JOIN c ON c.id = o.c AND c.r > 1 GROUP BY o.v');
SELECT maintained('unused_null', 'SELECT o.id FROM o LEFT JOIN c ON o.note = c.email');
SELECT maintained('unused_pair', 'SELECT o.id FROM o LEFT JOIN pair ON pair.a = o.v AND pair.b = o.c + 1 AND pair.x > o.id');
SELECT maintained('unused_chain', 'SELECT o.id FROM o LEFT JOIN c ON c.id = o.c LEFT JOIN pair ON pair.a = c.r AND pair.b = c.id');
SELECT maintained('unused_inner', 'SELECT x.id, r.name FROM (SELECT o.id, o.v, c.name FROM o LEFT JOIN c ON c.id = o.c) x JOIN r ON r.id = x.v');
SELECT maintained('unused_mirrored', 'SELECT o.id FROM c RIGHT JOIN o ON c.id = o.c');
SELECT maintained('used', 'SELECT o.id, c.r FROM o LEFT JOIN c ON c.id = o.c');
SELECT maintained('used_where', 'SELECT o.id FROM o LEFT JOIN c ON c.id = o.c WHERE c.r IS DISTINCT FROM 1');
SELECT maintained('used_lateral', 'SELECT o.id, x.n FROM o LEFT JOIN c ON c.id = o.c, LATERAL (SELECT count(*) AS n FROM r WHERE r.id = c.r) x');
SELECT maintained('half_a_key', 'SELECT o.id FROM o LEFT JOIN pair ON pair.a = o.v');
SELECT maintained('own_value', 'SELECT o.id FROM o LEFT JOIN pair ON pair.a = pair.x AND pair.b = o.v');
SELECT maintained('no_key', 'SELECT o.id FROM o LEFT JOIN r ON r.id = o.v');
SELECT maintained('deferrable', 'SELECT o.id FROM o LEFT JOIN c ON c.later = o.c');
SELECT maintained('partial', 'SELECT o.id FROM o LEFT JOIN c ON c.partly = o.c');
SELECT maintained('expression', 'SELECT o.id FROM o LEFT JOIN c ON c.lower = o.note');
SELECT maintained('other_equal', 'SELECT o.id FROM o LEFT JOIN c ON c.id >= o.c');

-- Groups are distinct by their keys.
SELECT maintained('distinct', 'SELECT DISTINCT v, c + 1 AS d, count(*) FROM o GROUP BY v, c + 1');
SELECT maintained('distinct_not', 'SELECT DISTINCT v, count(*) FROM o GROUP BY v, c');
SELECT maintained('distinct_one', 'SELECT DISTINCT count(*), sum(v) FROM o');

-- Subqueries that read nothing.
SET TimeZone = 'UTC';
SELECT maintained('constant', 'SELECT id, (SELECT current_setting(''TimeZone'')) AS zone, (SELECT (SELECT o.v + 1)) AS v FROM o WHERE id > (SELECT 3)');
SELECT maintained('constant_sum', 'SELECT (SELECT v) AS v, sum((SELECT id + v)), (SELECT max(o.id)) AS m FROM o GROUP BY (SELECT v)');
SELECT maintained('constant_not', 'SELECT id, (SELECT 1 WHERE v > 1) AS one FROM o');
SELECT maintained('lateral', 'SELECT o.id, x.a, y.b FROM o CROSS JOIN LATERAL (SELECT o.v * 2 AS a, o.note) x JOIN LATERAL (SELECT x.a + o.id AS b) y ON y.b > 5');
SELECT maintained('lateral_join', 'SELECT o.id, y.b, c.name FROM o CROSS JOIN LATERAL (SELECT o.v + 1 AS b) y JOIN c ON c.id = y.b');
SELECT maintained('lateral_left', 'SELECT o.id, y.b FROM o LEFT JOIN LATERAL (SELECT o.v + 1 AS b) y ON y.b > 5');
SELECT maintained('values', 'SELECT o.id, x.k, x.n FROM o, LATERAL (VALUES (''v'', v), (''c'', c), (''v'', v)) x (k, n) WHERE x.n > 1');
SELECT maintained('lateral_where', 'SELECT o.id, y.b, r.name FROM o, LATERAL (SELECT o.v + 1 AS b WHERE o.v <> 2) y, r WHERE r.id = y.b');
SELECT maintained('lateral_table', 'SELECT o.id, x.name FROM o, LATERAL (SELECT r.name FROM r WHERE r.id = o.v) x');
SELECT maintained('function', 'SELECT o.id, g, n FROM o, generate_series(o.v, o.c) WITH ORDINALITY g (g, n)');
SELECT maintained('values_sum', 'SELECT x.k, sum(x.n) FROM o JOIN c ON c.id = o.c CROSS JOIN LATERAL (VALUES (''v'', o.v), (''r'', c.r)) x (k, n) GROUP BY x.k');

-- Changes on both sides, with NULLs and duplicates; each time everything is as the query says.
INSERT INTO o VALUES (101, 1, 5, 'e1'), (102, NULL, NULL, NULL), (103, 99, 6, 'e5');
SELECT * FROM check_all();
INSERT INTO c VALUES (9, 3, 'c9', 'n1', 19, 9, 'L9'), (99, NULL, NULL, NULL, 99, NULL, NULL);
INSERT INTO r VALUES (3, 'three'), (3, 'three');
INSERT INTO pair VALUES (5, 2, 1000), (5, NULL, 1), (5, NULL, 2);
SELECT * FROM check_all();
UPDATE c SET r = coalesce(r, 0) + 1 WHERE id IN (1, 2, 99);
UPDATE o SET c = coalesce(c, 3) % 5, v = v - 1 WHERE id % 4 = 0;
SELECT * FROM check_all();
DELETE FROM c WHERE id IN (3, 9);
DELETE FROM o WHERE id % 9 = 0;
UPDATE pair SET b = b + 10;
SELECT * FROM check_all();

-- A removed table is not captured, but still read when the view is recomputed, and by its owner's right.
SELECT name FROM pgtrickle.pgt_stream_tables st, pgtrickle_internal.dependency d, LATERAL (SELECT d.source::regclass AS name) n
    WHERE st.pgt_relid = d.view AND pgt_name = 'unused_pair' AND pgt_schema = 'circuit_joins';
-- Without its key the join multiplies rows: due at once, and no longer maintained without the table.
ALTER TABLE pair DROP CONSTRAINT pair_a_b_key;
SELECT (SELECT f.pending_since IS NOT NULL FROM pgtrickle_internal.freshness() f WHERE f.view = 'unused_pair'::regclass) AS pending, (SELECT f.pending_since IS NOT NULL FROM pgtrickle_internal.freshness() f WHERE f.view = 'unused'::regclass) AS pending;
INSERT INTO pair SELECT a, b, x + 1 FROM pair;
INSERT INTO pair SELECT v, c + 1, 10000 FROM o;
SELECT * FROM refreshed('unused_pair');
SELECT count(*) > count(DISTINCT id) AS multiplied FROM unused_pair;
DELETE FROM pair;
SELECT * FROM refreshed('unused_pair');
-- With one again, by delta again.
CREATE UNIQUE INDEX pair_key ON pair (b, a);
SELECT * FROM refreshed('unused_pair');
INSERT INTO o VALUES (200, 1, 1, NULL);
SELECT * FROM refreshed('unused_pair');
DROP INDEX pair_key;
INSERT INTO pair VALUES (1, 2, 1000), (1, 2, 1000);
SELECT * FROM refreshed('unused_pair');

-- A child has no part in the key of its parent.
DELETE FROM pair;
CREATE UNIQUE INDEX pair_key ON pair (a, b);
SELECT * FROM refreshed('unused_pair');
CREATE TABLE pair_child () INHERITS (pair);
SELECT (SELECT f.pending_since IS NOT NULL FROM pgtrickle_internal.freshness() f WHERE f.view = 'unused_pair'::regclass) AS pending;
INSERT INTO pair_child SELECT v, c + 1, 10000 FROM o;
SELECT * FROM refreshed('unused_pair');
SELECT count(*) > count(DISTINCT id) AS multiplied FROM unused_pair;
DROP TABLE pair_child;
SELECT * FROM refreshed('unused_pair');

-- Rows that the owner of the view may not see leave no room for removal, and a table that the owner may not read is not left out
-- of the check.
CREATE ROLE regress_joins;
GRANT USAGE, CREATE ON SCHEMA circuit_joins TO regress_joins;
GRANT SELECT, TRIGGER ON o, c, pair TO regress_joins;
ALTER TABLE c ENABLE ROW LEVEL SECURITY;
CREATE POLICY visible ON c USING (r > 1);
SET ROLE regress_joins;
CREATE MATERIALIZED VIEW hidden WITH (pg_trickle.incremental) AS SELECT o.id FROM o LEFT JOIN c ON c.id = o.c;
CREATE MATERIALIZED VIEW granted WITH (pg_trickle.incremental) AS SELECT o.id FROM o LEFT JOIN pair ON pair.a = o.v AND pair.b = o.c;
RESET ROLE;
SELECT relid::regclass, effective_mode FROM pgtrickle_internal.stream_table WHERE relid IN ('hidden'::regclass, 'granted'::regclass) ORDER BY 1;
REVOKE SELECT ON pair FROM regress_joins;
INSERT INTO o VALUES (300, 1, 1, NULL);
REFRESH MATERIALIZED VIEW granted;
GRANT SELECT ON pair TO regress_joins;
SELECT * FROM refreshed('granted');
SELECT * FROM refreshed('hidden');

SET client_min_messages = warning;
DROP SCHEMA circuit_joins CASCADE;
DROP ROLE regress_joins;
