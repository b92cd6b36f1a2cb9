-- A backend keeps a few plans of a view, whatever the numbers of changes were.
CREATE SCHEMA plan_cache;
SET search_path = plan_cache;
CREATE TABLE a (id int PRIMARY KEY, x int);
CREATE TABLE b (id int PRIMARY KEY, x int);
CREATE TABLE c (id int PRIMARY KEY, x int);
CREATE TABLE d (id int PRIMARY KEY, x int);
INSERT INTO a SELECT g, g FROM generate_series(1, 100) g;
INSERT INTO b TABLE a; INSERT INTO c TABLE a; INSERT INTO d TABLE a;
ANALYZE a, b, c, d;
CREATE MATERIALIZED VIEW joined WITH (pg_trickle.incremental) AS
    SELECT id, a.x AS a, b.x AS b, c.x AS c, d.x AS d FROM a JOIN b USING (id) JOIN c USING (id) JOIN d USING (id);
-- Changes nothing, one row, some or more of each table, in all combinations.
CREATE FUNCTION change(n int) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    name text;
    digit int;
BEGIN
    FOR digit, name IN SELECT n / (4 ^ (i - 1))::int % 4, t FROM unnest('{a,b,c,d}'::text[]) WITH ORDINALITY u (t, i) LOOP
        EXECUTE format('UPDATE plan_cache.%I SET x = x + 1 WHERE id <= CASE %s WHEN 0 THEN 0 ELSE 4 ^ (%2$s - 1) END', name, digit);
    END LOOP;
    REFRESH MATERIALIZED VIEW plan_cache.joined;
END $$;
SET pg_trickle.refresh_strategy = delta;
SELECT count(change(n)) FROM generate_series(1, 120) n;
SELECT count(DISTINCT action), max(action) FROM pgtrickle.get_refresh_history('joined', 120);
SELECT name, count(*) <= 9 AS few, count(*) > 2 AS some, sum(total_bytes) < 2 * 1024 * 1024 AS small
  FROM pg_backend_memory_contexts WHERE name LIKE 'pg\_trickle %' GROUP BY name ORDER BY name;
-- The same again, from what is kept and what is made anew.
SELECT count(change(n)) FROM generate_series(1, 20) n, generate_series(1, 2);
SELECT count(*) AS wrong FROM ((SELECT id, a.x, b.x, c.x, d.x FROM a JOIN b USING (id) JOIN c USING (id) JOIN d USING (id)) EXCEPT ALL TABLE joined) x;
-- Entries that could not be finished leave nothing behind.
ALTER TABLE a ADD y int;
CREATE VIEW v0 AS SELECT id, x FROM a;
SELECT format('CREATE VIEW v%s AS SELECT id, x FROM v%s', g, g - 1) FROM generate_series(1, 60) g
\set ECHO none
\gexec
\set ECHO all
CREATE MATERIALIZED VIEW deep WITH (pg_trickle.incremental) AS SELECT id, x FROM v60;
CREATE OR REPLACE FUNCTION fails() RETURNS text LANGUAGE plpgsql AS $$
BEGIN
    CREATE OR REPLACE VIEW plan_cache.v0 AS SELECT id, x FROM plan_cache.a;
    PERFORM set_config('max_stack_depth', '100kB', true);
    REFRESH MATERIALIZED VIEW plan_cache.deep;
    RETURN 'refreshed';
EXCEPTION WHEN statement_too_complex THEN RETURN 'failed';
END $$;
SELECT fails(), count(*) FROM generate_series(1, 50) GROUP BY 1;
SELECT count(*) <= 2 AS few FROM pg_backend_memory_contexts WHERE name = 'pg_trickle view';
SET client_min_messages = warning;
DROP SCHEMA plan_cache CASCADE;
