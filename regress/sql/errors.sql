-- Errors pass through a refresh whole: what a plain materialized view reports, ours reports too, with a line of CONTEXT
-- of its own.
CREATE SCHEMA errors;
SET search_path = errors, public;
\set SHOW_CONTEXT always
SET pg_trickle.refresh_strategy = auto;

-- What a statement fails with, field by field.
CREATE FUNCTION diagnose(statement text) RETURNS TABLE (field text, value text) LANGUAGE plpgsql AS $$
DECLARE
	state text; message text; detail text; hint text; context text;
	at_schema text; at_table text; at_column text; at_constraint text; at_type text;
BEGIN
	EXECUTE statement;
	RETURN QUERY SELECT 'success', NULL;
EXCEPTION WHEN OTHERS THEN
	GET STACKED DIAGNOSTICS state = RETURNED_SQLSTATE, message = MESSAGE_TEXT, detail = PG_EXCEPTION_DETAIL,
		hint = PG_EXCEPTION_HINT, context = PG_EXCEPTION_CONTEXT, at_schema = SCHEMA_NAME, at_table = TABLE_NAME,
		at_column = COLUMN_NAME, at_constraint = CONSTRAINT_NAME, at_type = PG_DATATYPE_NAME;
	RETURN QUERY SELECT * FROM (VALUES ('sqlstate', state), ('message', message), ('detail', detail), ('hint', hint),
		('context', context), ('schema', at_schema), ('table', at_table), ('column', at_column),
		('constraint', at_constraint), ('data type', at_type)) AS f (a, b) WHERE b <> '';
END $$;

-- The fields in which ours differs from the plain view, but for our line of CONTEXT. PL/pgSQL evaluates an expression that has
-- failed before in the same transaction in another way, which adds a line.
CREATE FUNCTION differences(name text) RETURNS TABLE (field text, plain text, ours text) LANGUAGE sql AS $$
	SELECT field, p.value, o.value
	FROM diagnose(format('REFRESH MATERIALIZED VIEW errors.plain_%s', name)) p
		FULL JOIN diagnose(format('REFRESH MATERIALIZED VIEW errors.%s', name)) o USING (field)
	WHERE replace(regexp_replace(p.value, E'PL/pgSQL expression "[^"]*"\n', '', 'g'), 'errors.plain_', 'errors.') IS DISTINCT FROM
		regexp_replace(replace(o.value, format(E'refresh of materialized view "errors.%s"\n', name), ''),
			E'PL/pgSQL expression "[^"]*"\n', '', 'g')
$$;

CREATE TABLE t (id int PRIMARY KEY, a int, b text);
INSERT INTO t SELECT i, i, i FROM generate_series(1, 50) i;
CREATE DOMAIN positive AS int CONSTRAINT is_positive CHECK (VALUE > 0);
CREATE DOMAIN filled AS int NOT NULL;
CREATE FUNCTION share(int) RETURNS int IMMUTABLE LANGUAGE plpgsql AS 'BEGIN RETURN 100 / $1; END';
CREATE FUNCTION share_sql(int) RETURNS int IMMUTABLE SECURITY DEFINER LANGUAGE sql AS 'SELECT 100 / $1';
CREATE FUNCTION share_inlined(int) RETURNS int IMMUTABLE LANGUAGE sql AS 'SELECT 100 / $1';
CREATE FUNCTION refuse(int) RETURNS int IMMUTABLE LANGUAGE plpgsql AS $$
BEGIN
	IF $1 = 0 THEN
		RAISE EXCEPTION USING MESSAGE = 'zero is refused', DETAIL = 'It is the number of nothing.', HINT = 'Count something.',
			ERRCODE = 'UX001', SCHEMA = 'a schema', TABLE = 'a table', COLUMN = 'a column', CONSTRAINT = 'a constraint',
			DATATYPE = 'a type';
	END IF;
	RETURN $1;
END $$;
-- Catches an error and raises it again.
CREATE FUNCTION again(int) RETURNS int IMMUTABLE LANGUAGE plpgsql AS $$
BEGIN
	RETURN errors.refuse($1);
EXCEPTION WHEN OTHERS THEN
	BEGIN
		PERFORM 'no number'::text::int;
	EXCEPTION WHEN OTHERS THEN
		NULL;
	END;
	RAISE;
END $$;

CREATE FUNCTION in_both(name text, query text) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
	EXECUTE format('CREATE MATERIALIZED VIEW errors.plain_%s AS %s', name, query);
	EXECUTE format('CREATE MATERIALIZED VIEW errors.%s WITH (pg_trickle.incremental) AS %s', name, query);
END $$;
CREATE TEMP TABLE cases (n serial, name text, query text);
INSERT INTO cases (name, query) VALUES
	('division', 'SELECT id, 100 / a AS x FROM errors.t'),
	('conversion', 'SELECT id, b::int AS x FROM errors.t'),
	('domain_check', 'SELECT id, a::errors.positive AS x FROM errors.t'),
	('domain_null', 'SELECT id, NULLIF(a, 0)::errors.filled AS x FROM errors.t'),
	('function_plpgsql', 'SELECT id, errors.share(a) AS x FROM errors.t'),
	('function_sql', 'SELECT id, errors.share_sql(a) AS x FROM errors.t'),
	('function_inlined', 'SELECT id, errors.share_inlined(a) AS x FROM errors.t'),
	('function_raise', 'SELECT id, errors.refuse(a) AS x FROM errors.t'),
	('function_again', 'SELECT id, errors.again(a) AS x FROM errors.t'),
	('grouped', 'SELECT a % 7 AS x, sum(errors.refuse(a)) AS y FROM errors.t GROUP BY 1'),
	('filtered', 'SELECT id FROM errors.t WHERE errors.share(a) > 1');
SELECT count(in_both(name, query)) FROM cases;

INSERT INTO t VALUES (100, 0, 'x');
-- What it looks like.
REFRESH MATERIALIZED VIEW plain_function_plpgsql;
REFRESH MATERIALIZED VIEW function_plpgsql;
SELECT * FROM diagnose('REFRESH MATERIALIZED VIEW errors.function_raise');
SELECT * FROM diagnose('REFRESH MATERIALIZED VIEW errors.domain_check');
-- By delta, which fails, and then by recompute, which fails as well.
SELECT name, d.* FROM cases, differences(name) d ORDER BY n, field;
SELECT count(*) FROM cases, diagnose('REFRESH MATERIALIZED VIEW errors.' || name) d
	WHERE field = 'context' AND value LIKE '%refresh of materialized view "errors.' || name || '"%';
-- By delta only: a hint of ours where the error has none.
SET pg_trickle.refresh_strategy = delta;
SELECT name, field, plain, left(ours, 30) AS ours FROM cases, differences(name) d ORDER BY n, field;
-- By recompute.
SET pg_trickle.refresh_strategy = full;
SELECT name, d.* FROM cases, differences(name) d ORDER BY n, field;
RESET pg_trickle.refresh_strategy;
-- A delta that fails with an SQLSTATE of the user's own, over a row that came and went.
INSERT INTO t VALUES (104, 1, '1');
DELETE FROM t WHERE id = 100;
REFRESH MATERIALIZED VIEW function_raise;
SELECT count(*) FROM function_raise;
INSERT INTO t VALUES (100, 0, 'x');
-- At population: the whole of it.
CREATE MATERIALIZED VIEW plain_new AS SELECT id, share(a) AS x FROM t;
CREATE MATERIALIZED VIEW new WITH (pg_trickle.incremental) AS SELECT id, share(a) AS x FROM t;
SELECT pgtrickle.create_stream_table('errors.new', 'SELECT id, errors.share(a) AS x FROM errors.t');

-- A position in a text that the user did not send.
CREATE FUNCTION broken(int) RETURNS int IMMUTABLE SECURITY DEFINER LANGUAGE sql AS 'SELECT errors.gone($1)';
CREATE FUNCTION gone(int) RETURNS int IMMUTABLE LANGUAGE sql AS 'SELECT $1';
CREATE OR REPLACE FUNCTION broken(int) RETURNS int IMMUTABLE SECURITY DEFINER LANGUAGE sql AS 'SELECT errors.gone($1)';
CREATE MATERIALIZED VIEW plain_broken AS SELECT id, broken(id) AS x FROM t;
CREATE MATERIALIZED VIEW broken WITH (pg_trickle.incremental) AS SELECT id, broken(id) AS x FROM t;
DROP FUNCTION gone;
INSERT INTO t VALUES (101, 1, '1');
REFRESH MATERIALIZED VIEW plain_broken;
REFRESH MATERIALIZED VIEW broken;
DROP MATERIALIZED VIEW broken, plain_broken;

-- A unique index of the user's on a stream table.
CREATE MATERIALIZED VIEW twice WITH (pg_trickle.incremental) AS SELECT id, a + 0 AS a FROM t;
CREATE UNIQUE INDEX twice_a ON twice (id, (a IS NULL));
CREATE UNIQUE INDEX twice_b ON twice (a) WHERE a < 0;
INSERT INTO t VALUES (102, -1, '1'), (103, -1, '1');
SELECT * FROM diagnose('REFRESH MATERIALIZED VIEW errors.twice');
DROP MATERIALIZED VIEW twice;

-- An error of ours says in which refresh it was raised.
CREATE MATERIALIZED VIEW lower_view WITH (pg_trickle.incremental) AS SELECT id, a FROM t WITH NO DATA;
CREATE MATERIALIZED VIEW upper_view WITH (pg_trickle.incremental) AS SELECT id FROM lower_view WITH NO DATA;
REFRESH MATERIALIZED VIEW upper_view;
DROP MATERIALIZED VIEW lower_view CASCADE;

-- Statements that pass the hooks keep the position.
CREATE MATERIALIZED VIEW bad WITH (pg_trickle.incremental) AS SELEC 1;
CREATE MATERIALIZED VIEW bad WITH (pg_trickle.incremental) AS SELECT nope FROM t;
CREATE MATERIALIZED VIEW bad WITH (pg_trickle.incremental) AS SELECT 'x'::int FROM t;
ALTER TABLE t ADD CONSTRAINT few CHECK (id < 10);
ALTER TABLE t ALTER COLUMN b TYPE int USING b::int + nope;
CREATE TABLE bad (a int, CHECK (nope > 1));
DO $$ BEGIN ALTER TABLE errors.t ALTER COLUMN b TYPE int USING errors.refuse(a); END $$;
-- So do statements of a writer.
INSERT INTO t VALUES (1, 1, '1');
INSERT INTO t SELECT 500, nope;
SELECT * FROM diagnose('INSERT INTO errors.t VALUES (1, 1, 1)');

-- Texts given to functions: the position is in the text.
SELECT * FROM pgtrickle.validate_query('selec 1');
SELECT * FROM pgtrickle.validate_query('SELECT id,
	nope FROM errors.t');
SELECT * FROM pgtrickle.validate_query('SELECT 1; SELECT 2');
SELECT pgtrickle.create_stream_table('errors.bad', 'SELECT id, nope FROM errors.t');
SELECT pgtrickle.create_stream_table('errors.bad', 'SELECT id FROM');
SELECT pgtrickle.create_stream_table('errors.bad', $$SELECT 'x'::int AS x FROM errors.t$$);
SELECT pgtrickle.create_or_replace_stream_table('errors.division', 'SELECT id, nope FROM errors.t');
DO $$ BEGIN PERFORM pgtrickle.validate_query('SELECT nope'); END $$;

-- However many errors are caught, none is left behind.
CREATE FUNCTION catch(statement text, times int) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
	FOR i IN 1 .. times LOOP
		BEGIN
			EXECUTE statement;
		EXCEPTION WHEN OTHERS THEN
			NULL;
		END;
	END LOOP;
END $$;
CREATE FUNCTION bytes_kept() RETURNS bigint LANGUAGE sql AS $$
	SELECT coalesce(sum(total_bytes), 0)::bigint FROM pg_backend_memory_contexts WHERE name IN ('TopMemoryContext', 'pg_trickle error')
$$;
SELECT catch($$SELECT pgtrickle.validate_query('SELECT nope')$$, 100);
SELECT catch('REFRESH MATERIALIZED VIEW errors.function_again', 20);
SELECT bytes_kept() AS bytes \gset
SELECT catch($$SELECT pgtrickle.validate_query('SELECT nope')$$, 10000);
SELECT catch('REFRESH MATERIALIZED VIEW errors.function_again', 200);
SELECT bytes_kept() - :bytes < 20000 AS nothing_left;
SELECT count(*) FROM pg_backend_memory_contexts WHERE name = 'pg_trickle error';

-- A cancel is an error like others.
CREATE FUNCTION slow(int) RETURNS int IMMUTABLE LANGUAGE plpgsql AS 'BEGIN IF $1 = 0 THEN PERFORM pg_sleep(600); END IF; RETURN $1; END';
DELETE FROM t WHERE a <= 0;
CREATE MATERIALIZED VIEW slow WITH (pg_trickle.incremental) AS SELECT id, slow(a) AS x FROM t;
INSERT INTO t VALUES (200, 0, '0');
SET statement_timeout = '100ms';
REFRESH MATERIALIZED VIEW slow;
RESET statement_timeout;

\set ECHO none
\set SHOW_CONTEXT errors
SET client_min_messages = warning;
DROP SCHEMA errors CASCADE;
