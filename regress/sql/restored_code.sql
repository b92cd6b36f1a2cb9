-- Analysis of a query calls no function of a user's. A view without data, as a restore makes it, belongs at first to whoever
-- restores, and a query may be asked about by anybody: the code of others would run as them.
CREATE ROLE regress_author;
CREATE SCHEMA restored;
GRANT ALL ON SCHEMA restored TO regress_author;
CREATE TABLE restored.src (a int PRIMARY KEY, b int);
INSERT INTO restored.src SELECT g, g % 5 FROM generate_series(1, 20) g;
GRANT SELECT, TRIGGER ON restored.src TO regress_author;
SET ROLE regress_author;
CREATE FUNCTION restored.told(a int) RETURNS int VOLATILE LANGUAGE plpgsql AS $$
BEGIN
    IF current_user <> 'regress_author' THEN RAISE WARNING 'called as somebody else'; END IF;
    RETURN a;
END $$;
CREATE FUNCTION restored.k(a int) RETURNS int IMMUTABLE LANGUAGE plpgsql AS 'BEGIN RETURN restored.told(a); END';
CREATE FUNCTION restored.is_fine(a int) RETURNS boolean IMMUTABLE LANGUAGE plpgsql AS 'BEGIN RETURN restored.told(a) = a; END';
CREATE DOMAIN restored.checked AS int CHECK (restored.is_fine(VALUE));
-- Functions in SQL without a label, whose bodies stand for them.
CREATE FUNCTION restored.sum(a int, b int) RETURNS int LANGUAGE sql AS 'SELECT $1 + $2';
CREATE FUNCTION restored.body(a int) RETURNS int LANGUAGE sql AS 'SELECT $1 + restored.k(3)';
CREATE FUNCTION restored.parsed(a int) RETURNS int LANGUAGE sql BEGIN ATOMIC SELECT restored.body(a) + restored.k(1); END;
CREATE FUNCTION restored.given(a int, b int DEFAULT 5, c int DEFAULT restored.k(2)) RETURNS int LANGUAGE sql AS 'SELECT a * b + c';
CREATE FUNCTION restored.twice(a int) RETURNS int LANGUAGE sql AS 'SELECT a * a';
CREATE FUNCTION restored.literal(a int) RETURNS int LANGUAGE sql AS $$SELECT $1 + ('{1}'::restored.checked[])[1]$$;
CREATE FUNCTION restored.again(a int) RETURNS int LANGUAGE sql AS 'SELECT a';
CREATE OR REPLACE FUNCTION restored.again(a int) RETURNS int LANGUAGE sql AS
    'SELECT CASE WHEN a <= 1 THEN 1 ELSE a * restored.again(a - 1) END';
CREATE FUNCTION restored.onward(a int) RETURNS int LANGUAGE sql AS 'SELECT 1';
CREATE OR REPLACE FUNCTION restored.onward(a int) RETURNS int LANGUAGE sql AS 'SELECT 1 + restored.onward(a + 1)';
RESET ROLE;

CREATE MATERIALIZED VIEW restored.arguments WITH (pg_trickle.incremental) AS
    SELECT a, restored.sum(a, restored.k(1)) AS s, restored.given(a) AS g, restored.given(c => a, a => restored.k(2)) AS h,
           restored.twice(restored.sum(a, restored.k(4))) AS t, restored.twice(random()::int) IS NULL AS r
      FROM restored.src WITH NO DATA;
CREATE MATERIALIZED VIEW restored.bodies WITH (pg_trickle.incremental) AS
    SELECT a, restored.body(a) AS x, restored.parsed(restored.sum(a, restored.k(9))) AS y,
           restored.given(a) AS g, restored.given(c => a, a => restored.k(2)) AS h, restored.twice(restored.sum(a, restored.k(4))) AS t
      FROM restored.src WHERE restored.body(b) <> restored.k(7) WITH NO DATA;
CREATE MATERIALIZED VIEW restored.literals WITH (pg_trickle.incremental) AS
    SELECT restored.literal(a) FROM restored.src WITH NO DATA;
CREATE MATERIALIZED VIEW restored.recursions WITH (pg_trickle.incremental) AS
    SELECT restored.again(a) FROM restored.src WHERE a < 5 WITH NO DATA;
CREATE MATERIALIZED VIEW restored.endless WITH (pg_trickle.incremental) AS
    SELECT restored.onward(a) FROM restored.src WITH NO DATA;
CREATE MATERIALIZED VIEW restored.folded WITH (pg_trickle.incremental) AS
    SELECT b, sum(a + restored.k(1)) FILTER (WHERE a > restored.k(2)) FROM restored.src WHERE b <> restored.k(70)
     GROUP BY b HAVING count(*) > restored.k(0) WITH NO DATA;
SELECT pgt_name, effective_refresh_mode, downgrade_reason FROM pgtrickle.pgt_stream_tables WHERE pgt_schema = 'restored' ORDER BY pgt_id;
SELECT count(*) > 0 AS validated FROM pgtrickle.validate_query('SELECT restored.body(a), restored.sum(a, restored.k(1)), restored.literal(a) FROM restored.src');
SELECT count(*) > 0 AS validated FROM pgtrickle.validate_query('SELECT restored.onward(restored.again(a)) FROM restored.src');

-- With rows it is the owner's code that runs, as the owner.
ALTER MATERIALIZED VIEW restored.bodies OWNER TO regress_author;
ALTER MATERIALIZED VIEW restored.literals OWNER TO regress_author;
REFRESH MATERIALIZED VIEW restored.bodies;
REFRESH MATERIALIZED VIEW restored.literals;
INSERT INTO restored.src VALUES (100, 1), (101, 2);
DELETE FROM restored.src WHERE a = 3;
SET pg_trickle.refresh_strategy = delta;
REFRESH MATERIALIZED VIEW restored.bodies;
RESET pg_trickle.refresh_strategy;
SELECT action FROM pgtrickle.get_refresh_history('restored.bodies', 1);
SET ROLE regress_author;
SELECT count(*) FROM restored.bodies;
SELECT count(*) FROM (SELECT a, restored.body(a), restored.parsed(a + 9), restored.given(a), restored.given(2, 5, a), restored.twice(a + 4)
                        FROM restored.src WHERE restored.body(b) <> 7 EXCEPT TABLE restored.bodies) d;
RESET ROLE;

-- The statements of export_definition() give the view to its owner before they make the owner's indexes.
SET ROLE regress_author;
CREATE MATERIALIZED VIEW restored.exported WITH (pg_trickle.incremental) AS SELECT a, b FROM restored.src;
CREATE INDEX exported_expression ON restored.exported ((restored.k(1)));
CREATE INDEX exported_predicate ON restored.exported (a) WHERE a > restored.k(2);
RESET ROLE;
SELECT pgtrickle.export_definition('restored.exported') AS definition \gset
DROP MATERIALIZED VIEW restored.exported;
:definition
SELECT count(*) FROM restored.exported;

-- SELECT INTO is another statement.
SELECT pgtrickle.validate_query('SELECT 1 AS a INTO other');
SELECT pgtrickle.create_stream_table('restored.other', 'SELECT 1 AS a INTO other UNION ALL SELECT 2');

SET client_min_messages = warning;
DROP SCHEMA restored CASCADE;
DROP ROLE regress_author;
RESET client_min_messages;

-- Privileges on all tables of a database are none on tables of the extension, which hold what row security hides.
CREATE ROLE regress_all_data IN ROLE pg_read_all_data, pg_write_all_data;
CREATE TABLE guarded (a int PRIMARY KEY, word text);
ALTER TABLE guarded ENABLE ROW LEVEL SECURITY;
INSERT INTO guarded VALUES (1, 'one'), (2, 'two');
CREATE MATERIALIZED VIEW guarded_words WITH (pg_trickle.incremental) AS SELECT word, count(*) FROM guarded GROUP BY word;
INSERT INTO guarded VALUES (3, 'three');
SELECT relname ~ '^(changes|state)_' AS made, bool_and(relrowsecurity) AS guarded FROM pg_class
 WHERE relnamespace = 'pgtrickle_internal'::regnamespace AND relkind = 'r' GROUP BY 1 ORDER BY 1;
SELECT relid::regclass AS state FROM pgtrickle_internal.state WHERE view = 'guarded_words'::regclass \gset
SELECT segment_a::regclass AS buffer_a, segment_b::regclass AS buffer_b FROM pgtrickle_internal.source WHERE relid = 'guarded'::regclass \gset
SELECT count(*) > 0 AS waiting FROM (TABLE :buffer_a UNION ALL TABLE :buffer_b) b;
SET ROLE regress_all_data;
SELECT count(*) FROM guarded;
SELECT count(*) FROM :state;
SELECT count(*) FROM (TABLE :buffer_a UNION ALL TABLE :buffer_b) b;
SELECT count(*) FROM pgtrickle_internal.refresh_history;
WITH changed AS (UPDATE pgtrickle_internal.source SET segment_a = 'pg_authid'::regclass RETURNING 1) SELECT count(*) FROM changed;
INSERT INTO pgtrickle_internal.paused VALUES (now());
SELECT count(*) > 0 AS shown FROM pgtrickle.pgt_stream_tables WHERE pgt_name = 'guarded_words';
RESET ROLE;
REFRESH MATERIALIZED VIEW guarded_words;
TABLE guarded_words ORDER BY word;
SET client_min_messages = warning;
DROP TABLE guarded CASCADE;
DROP ROLE regress_all_data;
RESET client_min_messages;

-- Snapshot consistency with stream tables that a view comes to rest on later takes the same permission.
CREATE ROLE regress_above;
CREATE ROLE regress_below;
CREATE SCHEMA above AUTHORIZATION regress_above;
CREATE SCHEMA below AUTHORIZATION regress_below;
GRANT USAGE ON SCHEMA below TO regress_above;
SET ROLE regress_below;
CREATE TABLE below.t (a int PRIMARY KEY);
CREATE MATERIALIZED VIEW below.first WITH (pg_trickle.incremental) AS SELECT a FROM below.t;
CREATE MATERIALIZED VIEW below.second AS SELECT a FROM below.t;
GRANT SELECT ON below.first, below.second TO regress_above;
SET ROLE regress_above;
CREATE TABLE above.own (a int PRIMARY KEY);
CREATE VIEW above.plain AS SELECT a FROM above.own;
CREATE MATERIALIZED VIEW above.between WITH (pg_trickle.incremental) AS SELECT a FROM above.plain;
CREATE MATERIALIZED VIEW above.by_query WITH (pg_trickle.incremental, pg_trickle.consistency = 'snapshot') AS SELECT a FROM above.between;
CREATE MATERIALIZED VIEW above.by_adoption WITH (pg_trickle.incremental, pg_trickle.consistency = 'snapshot') AS SELECT a FROM below.second;
SELECT pgtrickle.alter_stream_table('above.by_query', status => 'SUSPENDED');
SELECT pgtrickle.resume_stream_table('above.by_query');
CREATE OR REPLACE VIEW above.plain AS SELECT a FROM below.first;
REFRESH MATERIALIZED VIEW above.between;
SET ROLE regress_below;
ALTER MATERIALIZED VIEW below.second SET (pg_trickle.incremental);
SET ROLE regress_above;
SELECT pgt_name, status FROM pgtrickle.pgt_stream_tables WHERE pgt_schema = 'above' ORDER BY pgt_id;
SELECT pgtrickle.resume_stream_table('above.by_query');
SELECT pgtrickle.alter_stream_table('above.by_adoption', status => 'ACTIVE');
SET ROLE regress_below;
GRANT MAINTAIN ON below.first TO regress_above;
SET ROLE regress_above;
SELECT pgtrickle.resume_stream_table('above.by_query');
SELECT status FROM pgtrickle.pgt_stream_tables WHERE pgt_name = 'by_query';
RESET ROLE;
SET client_min_messages = warning;
DROP SCHEMA above, below CASCADE;
DROP ROLE regress_above, regress_below;
