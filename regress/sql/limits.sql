-- Sizes at which something fixed or quadratic would show: many inputs, columns, levels and views.
CREATE SCHEMA limits;
SET search_path = limits;
SET max_stack_depth = '2MB';
CREATE TABLE t (id int PRIMARY KEY, a int);
INSERT INTO t SELECT g, g FROM generate_series(1, 20) g;

-- Rows that differ between a view and its query, as text; after a change and a delta of it.
CREATE FUNCTION wrong(view regclass, query text) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE found bigint;
BEGIN
    EXECUTE format('SELECT count(*) FROM ((SELECT v::text FROM %1$s v EXCEPT ALL SELECT q::text FROM (%2$s) q) UNION ALL
        (SELECT q::text FROM (%2$s) q EXCEPT ALL SELECT v::text FROM %1$s v)) d', view, query) INTO found;
    RETURN found;
END $$;
CREATE FUNCTION try(name text, query text, OUT mode text, OUT action text, OUT wrong bigint) LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pgtrickle.create_stream_table(name, query);
    mode := (SELECT effective_mode FROM pgtrickle.explain_refresh_mode(name));
    UPDATE limits.t SET a = a + 1 WHERE id = 3;
    INSERT INTO limits.t SELECT max(id) + 1, -1 FROM limits.t;
    DELETE FROM limits.t WHERE id = 1;
    PERFORM pgtrickle.refresh_stream_table(name);
    action := (SELECT h.action FROM pgtrickle.get_refresh_history(name, 1) h);
    wrong := wrong(name::regclass, query);
    EXECUTE 'DROP MATERIALIZED VIEW ' || name;
    INSERT INTO limits.t VALUES (1, 1);
END $$;
SET pg_trickle.refresh_strategy = delta;

-- Inputs.
SELECT * FROM try('legs_257', (SELECT string_agg('SELECT id, a FROM t WHERE a <> ' || g, ' UNION ALL ') FROM generate_series(1, 257) g));
SELECT * FROM try('legs_1000', (SELECT string_agg('SELECT id, a FROM t WHERE a = ' || g, ' UNION ALL ') FROM generate_series(1, 1000) g));
SELECT * FROM try('unions', (SELECT string_agg('SELECT id, a FROM t WHERE a = ' || g, ' UNION ') FROM generate_series(1, 300) g));
SELECT * FROM try('joins', (SELECT 'SELECT t0.id, t0.a FROM t t0 ' || string_agg(format('JOIN t t%s USING (id)', g), ' ') FROM generate_series(1, 11) g));
-- Columns: as many as a table and a view can have.
\set ECHO none
SELECT 'CREATE TABLE wide (' || string_agg('c' || g || ' int', ', ') || ')' FROM generate_series(1, 1600) g \gexec
\set ECHO all
INSERT INTO wide (c1, c800, c1600) SELECT g, g, g FROM generate_series(1, 5) g;
CREATE MATERIALIZED VIEW all_columns WITH (pg_trickle.incremental) AS SELECT * FROM wide;
CREATE MATERIALIZED VIEW last_column WITH (pg_trickle.incremental) AS SELECT c1600, count(*) FROM wide GROUP BY c1600;
UPDATE wide SET c1 = 0, c1600 = 7 WHERE c800 IN (2, 3);
INSERT INTO wide (c1600) VALUES (7);
REFRESH MATERIALIZED VIEW all_columns;
REFRESH MATERIALIZED VIEW last_column;
SELECT wrong('all_columns', 'TABLE wide'), wrong('last_column', 'SELECT c1600, count(*) FROM wide GROUP BY c1600');
SELECT * FROM try('outputs', (SELECT 'SELECT id, ' || string_agg(format('a + %s AS c%1$s', g), ', ') || ' FROM t' FROM generate_series(1, 1599) g));
SELECT * FROM try('groups', (SELECT 'SELECT id, ' || string_agg(format('sum(a + %s) AS c%1$s', g), ', ') || ' FROM t GROUP BY id' FROM generate_series(1, 500) g));
SELECT * FROM try('keys', (SELECT 'SELECT ' || string_agg('a % ' || g || ' AS c' || g, ', ') || ', count(*) FROM t GROUP BY ' || string_agg('a % ' || g, ', ')
    FROM generate_series(1, 100) g));
-- Levels.
SELECT * FROM try('subqueries', (SELECT repeat('SELECT id, a FROM (', 100) || 'SELECT id, a FROM t' || repeat(') s WHERE a <> 1000', 100)));
SELECT * FROM try('expressions', (SELECT 'SELECT id, ' || repeat('(1 + ', 500) || 'a' || repeat(')', 500) || ' AS a FROM t'));
SELECT * FROM try('ctes', (SELECT 'WITH c0 AS (SELECT id, a FROM t), ' || string_agg(format('c%s AS (SELECT id, a FROM c%s)', g, g - 1), ', ') || ' SELECT * FROM c100'
    FROM generate_series(1, 100) g));
CREATE VIEW v0 AS SELECT id, a FROM t;
\set ECHO none
SELECT format('CREATE VIEW v%s AS SELECT id, a FROM v%s WHERE a <> 1000', g, g - 1) FROM generate_series(1, 100) g \gexec
\set ECHO all
SELECT * FROM try('views', 'SELECT id, a FROM v100');
-- Too deep for the stack is an error with a name, of the server's recursion or of ours, and the session goes on.
CREATE MATERIALIZED VIEW deep WITH (pg_trickle.incremental) AS SELECT id, a FROM v100;
INSERT INTO t VALUES (-3, -3);
SET max_stack_depth = '100kB';
\set VERBOSITY sqlstate
REFRESH MATERIALIZED VIEW deep;
SELECT try('deeper', (SELECT repeat('SELECT id, a FROM (', 400) || 'SELECT id, a FROM t' || repeat(') s', 400)));
SELECT try('deeper', (SELECT 'SELECT id, ' || repeat('(1 + ', 1000) || 'a' || repeat(')', 1000) || ' AS a FROM t'));
\set VERBOSITY default
SET max_stack_depth = '2MB';
REFRESH MATERIALIZED VIEW deep;
SELECT wrong('deep', 'SELECT id, a FROM t');
-- A chain of stream tables, refreshed from its end.
CREATE MATERIALIZED VIEW chain0 WITH (pg_trickle.incremental) AS SELECT id, a FROM t;
\set ECHO none
SELECT format('CREATE MATERIALIZED VIEW chain%s WITH (pg_trickle.incremental) AS SELECT id, a FROM chain%s', g, g - 1) FROM generate_series(1, 100) g \gexec
\set ECHO all
INSERT INTO t VALUES (-1, -1);
REFRESH MATERIALIZED VIEW chain100;
SELECT wrong('chain100', 'SELECT id, a FROM t');
SELECT max(depth) FROM pgtrickle.dependency_tree();
-- Many views of one table; the memory kept of them and of their plans is bounded.
\set ECHO none
SELECT format('CREATE MATERIALIZED VIEW many%s WITH (pg_trickle.incremental) AS SELECT id, a FROM t WHERE a <> %1$s', g) FROM generate_series(1, 1000) g \gexec
\set ECHO all
INSERT INTO t VALUES (-2, -2);
SELECT count(*) FROM generate_series(1, 1000) g, LATERAL pgtrickle.refresh_stream_table('many' || g) r;
SELECT sum(wrong(('many' || g)::regclass, 'SELECT id, a FROM t WHERE a <> ' || g)) FROM generate_series(1, 1000, 111) g;
SELECT sum(total_bytes) < 34 * 1024 * 1024 AS bounded, sum(total_bytes) > 1024 * 1024 AS used
  FROM pg_backend_memory_contexts WHERE name LIKE 'pg\_trickle%';
SET client_min_messages = warning;
DROP SCHEMA limits CASCADE;
