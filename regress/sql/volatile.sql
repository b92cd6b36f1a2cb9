-- Functions that are VOLATILE, if only because nobody labelled them, and names and settings that stand for one value.
CREATE SCHEMA volatile;
SET search_path = volatile;
CREATE TABLE t (id int PRIMARY KEY, a int);
INSERT INTO t SELECT i, i % 3 FROM generate_series(1, 6) i;
\getenv srcdir PG_ABS_SRCDIR
\set helpers :srcdir '/data/wrong.sql'
\i :helpers

CREATE FUNCTION maintained(view regclass, OUT mode text, OUT reason text) LANGUAGE sql AS $$
    SELECT effective_mode, downgrade_reason FROM pgtrickle_internal.stream_table WHERE relid = view
$$;
CREATE FUNCTION refresh(view regclass, OUT action text, OUT wrong bigint) LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pgtrickle.refresh_stream_table('volatile.' || view::text);
    action := (SELECT h.action FROM pgtrickle.get_refresh_history('volatile.' || view::text, 1) h);
    wrong := wrong(view);
END $$;

-- Deltas where there are any, whatever they cost.
SET pg_trickle.refresh_strategy = delta;

-- Inlined: the body speaks. A delta follows each kind of change, NULLs included.
CREATE FUNCTION plus_one(int) RETURNS int LANGUAGE sql AS 'SELECT $1 + 1';
CREATE FUNCTION twice(int) RETURNS int LANGUAGE sql AS 'SELECT volatile.plus_one($1) + volatile.plus_one($1) - 2';
CREATE FUNCTION same(v int, by int DEFAULT 0) RETURNS int STABLE LANGUAGE sql RETURN v + by;
CREATE MATERIALIZED VIEW inlined WITH (pg_trickle.incremental) AS
    SELECT plus_one(a) AS b, count(*) AS n, sum(twice(id)) AS s, max(same(by => 2, v => id)) AS m
    FROM (SELECT id, plus_one(a) - 1 AS a FROM t) x WHERE twice(id) > 2 GROUP BY plus_one(a);
SELECT * FROM maintained('inlined');
INSERT INTO t VALUES (7, NULL), (8, 1);
SELECT * FROM refresh('inlined');
UPDATE t SET a = a + 1 WHERE id < 4;
DELETE FROM t WHERE id = 8;
SELECT * FROM refresh('inlined');
-- A body that was replaced, directly or behind another function.
CREATE OR REPLACE FUNCTION plus_one(int) RETURNS int LANGUAGE sql AS 'SELECT $1 + 1 + 0';
SELECT * FROM refresh('inlined');
CREATE OR REPLACE FUNCTION plus_one(int) RETURNS int LANGUAGE plpgsql AS 'BEGIN RETURN $1 + 1; END';
SELECT * FROM refresh('inlined');
SELECT * FROM maintained('inlined');
CREATE OR REPLACE FUNCTION plus_one(int) RETURNS int LANGUAGE sql AS 'SELECT $1 + 1';
SELECT * FROM refresh('inlined');
SELECT * FROM maintained('inlined');

-- A body that means nothing in a refresh is no reason to refuse the view before that.
CREATE FUNCTION broken(int) RETURNS int LANGUAGE sql AS 'SELECT plus_one($1)';
CREATE MATERIALIZED VIEW unfinished WITH (pg_trickle.incremental) AS SELECT id, broken(a) FROM t WITH NO DATA;
SELECT * FROM maintained('unfinished');
REFRESH MATERIALIZED VIEW unfinished;
CREATE OR REPLACE FUNCTION broken(int) RETURNS int LANGUAGE sql AS 'SELECT volatile.plus_one($1)';
REFRESH MATERIALIZED VIEW unfinished;
SELECT * FROM maintained('unfinished');

-- Not inlined: recomputed. Nothing is refused but an explicit wish for deltas.
CREATE FUNCTION unlabelled(int) RETURNS int LANGUAGE plpgsql AS 'BEGIN RETURN $1 * 10; END';
CREATE MATERIALIZED VIEW differential WITH (pg_trickle.incremental, pg_trickle.refresh_mode = DIFFERENTIAL) AS SELECT unlabelled(a) FROM t;
CREATE MATERIALIZED VIEW auto WITH (pg_trickle.incremental) AS SELECT id, unlabelled(a) AS u FROM t;
CREATE MATERIALIZED VIEW anew WITH (pg_trickle.incremental, pg_trickle.refresh_mode = FULL) AS SELECT id, unlabelled(a) AS u FROM t;
CREATE MATERIALIZED VIEW above WITH (pg_trickle.incremental) AS SELECT sum(u) AS u FROM auto;
SELECT v, m.* FROM unnest('{auto, anew, above}'::regclass[]) v, maintained(v) m;
SELECT v, (SELECT f.pending_since IS NOT NULL FROM pgtrickle_internal.freshness() f WHERE f.view = v) AS pending FROM unnest('{auto, above}'::regclass[]) v;
UPDATE t SET a = 5 WHERE id = 1;
SELECT v, (SELECT f.pending_since IS NOT NULL FROM pgtrickle_internal.freshness() f WHERE f.view = v) AS pending FROM unnest('{auto, above}'::regclass[]) v;
SELECT v, r.* FROM unnest('{above, auto, anew}'::regclass[]) v, refresh(v) r;
-- The label that helps.
SELECT check_name, result FROM pgtrickle.validate_query('SELECT volatile.unlabelled(a) FROM volatile.t') WHERE check_name IN ('maintenance', 'reason');
ALTER FUNCTION unlabelled(int) IMMUTABLE;
REFRESH MATERIALIZED VIEW auto;
SELECT * FROM maintained('auto');
UPDATE t SET a = 6 WHERE id = 1;
SELECT * FROM refresh('auto');

-- Those of the server. What a function does beside returning a value, it does at every refresh.
CREATE SEQUENCE numbers;
CREATE TABLE calls (n int);
CREATE FUNCTION noted(int) RETURNS int LANGUAGE plpgsql AS 'BEGIN INSERT INTO volatile.calls VALUES ($1); RETURN $1; END';
CREATE MATERIALIZED VIEW dice WITH (pg_trickle.incremental) AS SELECT id, random() < 2 AS always, clock_timestamp() > '2020-01-01' AS late FROM t;
CREATE MATERIALIZED VIEW numbered WITH (pg_trickle.incremental) AS SELECT id, nextval('volatile.numbers') AS n FROM t;
CREATE MATERIALIZED VIEW notes WITH (pg_trickle.incremental) AS SELECT noted(id) AS id FROM t;
SELECT v, m.* FROM unnest('{dice, numbered, notes}'::regclass[]) v, maintained(v) m;
SELECT count(*) FROM calls;
INSERT INTO t VALUES (9, 9);
SELECT * FROM refresh('dice');
SELECT * FROM refresh('dice');
REFRESH MATERIALIZED VIEW numbered;
SELECT min(n), max(n), count(DISTINCT id) FROM numbered;
REFRESH MATERIALIZED VIEW notes;
SELECT (SELECT count(*) FROM calls) AS calls, (SELECT count(*) FROM notes) AS notes, (SELECT count(*) FROM t) AS rows;
SELECT check_name, result FROM pgtrickle.validate_query('SELECT nextval(''volatile.numbers'')') WHERE check_name = 'reason';
-- Refused as ever.
CREATE MATERIALIZED VIEW sample WITH (pg_trickle.incremental) AS SELECT id FROM t TABLESAMPLE bernoulli (50);
CREATE MATERIALIZED VIEW locking WITH (pg_trickle.incremental) AS SELECT id FROM t FOR UPDATE;

-- Settings that are pinned and the owner's name are constants; other settings and the session are not.
SET TimeZone = 'Europe/Berlin';
CREATE MATERIALIZED VIEW pinned WITH (pg_trickle.incremental) AS
    SELECT id, current_setting('timezone') AS zone, current_setting('DateStyle', true) AS style FROM t;
CREATE MATERIALIZED VIEW unpinned WITH (pg_trickle.incremental) AS SELECT id, current_setting('work_mem') AS mem FROM t;
CREATE ROLE regress_volatile;
CREATE ROLE regress_volatile_other;
GRANT USAGE, CREATE ON SCHEMA volatile TO regress_volatile, regress_volatile_other;
GRANT SELECT, TRIGGER ON t TO regress_volatile, regress_volatile_other;
CREATE MATERIALIZED VIEW owned WITH (pg_trickle.incremental) AS SELECT id, current_user AS u, current_role AS r, user AS n FROM t;
CREATE MATERIALIZED VIEW session WITH (pg_trickle.incremental) AS SELECT id, session_user AS u FROM t;
SELECT v, m.* FROM unnest('{pinned, unpinned, owned, session}'::regclass[]) v, maintained(v) m;
SET TimeZone = 'UTC';
INSERT INTO t VALUES (10, 1);
SELECT r.action FROM refresh('pinned') r;
SET TimeZone = 'Europe/Berlin';
SELECT wrong('pinned');
SELECT DISTINCT zone FROM pinned;
SELECT * FROM refresh('owned');
-- Another owner: due at once.
ALTER MATERIALIZED VIEW owned OWNER TO regress_volatile;
SELECT (SELECT f.pending_since IS NOT NULL FROM pgtrickle_internal.freshness() f WHERE f.view = 'owned'::regclass) AS pending;
REFRESH MATERIALIZED VIEW owned;
SELECT DISTINCT u, r, n FROM owned;
-- Another name.
ALTER ROLE regress_volatile RENAME TO regress_volatile_renamed;
SELECT (SELECT f.pending_since IS NOT NULL FROM pgtrickle_internal.freshness() f WHERE f.view = 'owned'::regclass) AS pending;
REFRESH MATERIALIZED VIEW owned;
SELECT DISTINCT u, r, n FROM owned;
INSERT INTO t VALUES (11, 1);
REFRESH MATERIALIZED VIEW owned;
SELECT h.action FROM pgtrickle.get_refresh_history('volatile.owned', 1) h;

SET client_min_messages = warning;
DROP SCHEMA volatile CASCADE;
DROP ROLE regress_volatile_renamed, regress_volatile_other;
