CREATE SCHEMA circuit_refusals;
SET search_path = circuit_refusals, public;
\pset format unaligned
\pset tuples_only on

\getenv srcdir PG_ABS_SRCDIR
\set helpers :srcdir '/data/circuit.sql'
\i :helpers

CREATE TABLE orders (id int PRIMARY KEY, customer int NOT NULL, status text, amount numeric, placed timestamptz, weight float8);
CREATE TABLE customers (id int PRIMARY KEY, name text NOT NULL, email text UNIQUE, region int, profile json);

-- Only what is said about maintaining the query.
CREATE FUNCTION verdict(query text) RETURNS SETOF text LANGUAGE sql AS $$
    SELECT line FROM circuit(query) line WHERE line ~ '^(---|refused|recomputed|inputs|depends)'
$$;

-- Shapes: recomputed when something has changed. Each with the nearest shape that is maintained.
SELECT verdict('SELECT o.id, c.name FROM orders o LEFT JOIN customers c ON c.id = o.customer');
SELECT verdict('SELECT o.id, c.name FROM orders o RIGHT JOIN customers c ON c.id = o.customer');
SELECT verdict('SELECT o.id, c.name FROM orders o FULL JOIN customers c ON c.id = o.customer');
SELECT verdict('SELECT o.id, c.name FROM orders o JOIN customers c ON c.id = o.customer');
SELECT verdict('SELECT id FROM orders WHERE EXISTS (SELECT FROM customers WHERE id = customer)');
SELECT verdict('SELECT id FROM orders WHERE customer NOT IN (SELECT id FROM customers)');
SELECT verdict('SELECT id, (SELECT max(region) FROM customers) AS r FROM orders');
SELECT verdict('SELECT id FROM orders WHERE customer IN (1, 2, 3)');
SELECT verdict('SELECT o.id, c.n FROM orders o, LATERAL (SELECT count(*) AS n FROM customers WHERE id = o.customer) c');
SELECT verdict('SELECT o.id, c.name FROM orders o, (SELECT * FROM customers) c');
SELECT verdict('SELECT o.id, g FROM orders o, generate_series(1, o.customer) g');
SELECT verdict('SELECT o.id, g FROM orders o, generate_series(1, 3) g, (VALUES (1), (2)) v');
SELECT verdict('SELECT id, generate_series(1, 3) AS g FROM orders');
SELECT verdict('SELECT id, rank() OVER (ORDER BY amount) AS r FROM orders');
SELECT verdict('SELECT DISTINCT ON (customer) customer, id FROM orders ORDER BY customer, id');
SELECT verdict('SELECT id FROM orders INTERSECT SELECT id FROM customers');
SELECT verdict('SELECT id FROM orders OFFSET 3');
SELECT verdict('SELECT id FROM (SELECT * FROM orders OFFSET 0) o LIMIT ALL');
SELECT verdict('SELECT customer, status, count(*) FROM orders GROUP BY CUBE (customer, status)');
SELECT verdict('SELECT customer, grouping(customer) AS g FROM orders GROUP BY customer');
SELECT verdict('SELECT customer, count(*) FROM orders GROUP BY GROUPING SETS ((customer))');
SELECT verdict('SELECT max(n) FROM (SELECT count(*) AS n FROM orders GROUP BY customer) c');
SELECT verdict('SELECT id FROM orders UNION ALL SELECT count(*)::int FROM customers');
SELECT verdict('SELECT FROM orders UNION SELECT FROM customers');
SELECT verdict('SELECT FROM orders GROUP BY customer');
SELECT verdict('SELECT FROM orders UNION ALL SELECT FROM customers');
CREATE TABLE parent (a int PRIMARY KEY);
CREATE TABLE child () INHERITS (parent);
SELECT verdict('SELECT a FROM ONLY parent');
SELECT verdict('SELECT a FROM parent UNION ALL SELECT a FROM ONLY child');

-- What capture cannot see: recomputed at every refresh.
CREATE FOREIGN DATA WRAPPER circuit_fdw;
CREATE SERVER circuit_server FOREIGN DATA WRAPPER circuit_fdw;
CREATE FOREIGN TABLE elsewhere (a int) SERVER circuit_server;
SELECT verdict('SELECT a FROM elsewhere');
CREATE TABLE parted (a int, b int) PARTITION BY RANGE (a);
CREATE TABLE parted_1 PARTITION OF parted FOR VALUES FROM (0) TO (10);
SELECT verdict('SELECT b FROM parted');
CREATE FOREIGN TABLE parted_2 PARTITION OF parted FOR VALUES FROM (10) TO (20) SERVER circuit_server;
SELECT verdict('SELECT b FROM parted');
SELECT verdict('SELECT relname FROM pg_class');
SELECT verdict('SELECT view FROM pgtrickle_internal.dependency');
CREATE MATERIALIZED VIEW plain_view AS SELECT id FROM orders;
SELECT verdict('SELECT id FROM plain_view');
CREATE MATERIALIZED VIEW stream_table WITH (pg_trickle.incremental) AS SELECT id FROM orders;
SELECT verdict('SELECT id FROM stream_table');
CREATE UNLOGGED TABLE scratch (a int);
SELECT verdict('SELECT a FROM scratch');
CREATE SEQUENCE numbers;
SELECT verdict('SELECT last_value FROM numbers');
SELECT verdict('SELECT id, xmin::text AS x FROM orders');
SELECT verdict('SELECT tableoid AS t FROM orders');

-- Functions. The clock:
SELECT verdict('SELECT id FROM orders WHERE placed > now() - interval ''1 day''');
SELECT verdict('SELECT id FROM orders WHERE placed::date = CURRENT_DATE');
SELECT verdict('SELECT id, age(placed) FROM orders');
SELECT verdict('SELECT id, age(placed, timestamptz ''2020-01-01'') FROM orders');
-- the session, the catalogs, and what functions of users may read:
SELECT verdict('SELECT id FROM orders WHERE status = session_user');
SELECT verdict('SELECT id FROM orders WHERE status = current_setting(''app.status'')');
SELECT verdict('SELECT id FROM orders WHERE status = current_setting(''timezone'', true)');
SELECT verdict('SELECT id FROM orders WHERE has_table_privilege(status, ''SELECT'')');
CREATE FUNCTION looks_up(int) RETURNS text STABLE LANGUAGE sql AS 'SELECT name FROM customers WHERE id = $1';
CREATE FUNCTION adds_one(int) RETURNS int IMMUTABLE LANGUAGE sql AS 'SELECT $1 + 1';
SELECT verdict('SELECT id, looks_up(customer) FROM orders');
SELECT verdict('SELECT id, adds_one(customer) FROM orders');
-- Settings are pinned, and the owner stays the owner.
SELECT verdict('SELECT id, placed::text, to_char(placed, ''Day''), placed + interval ''1 day'' AS next FROM orders');
SELECT verdict('SELECT id, json_build_object(''placed'', placed) FROM orders');
SELECT verdict('SELECT id FROM orders WHERE status = current_user');

-- What is kept of a group has to fit a row.
CREATE FUNCTION wide(calls int, call text, rest text) RETURNS SETOF text LANGUAGE sql AS $$
    SELECT line FROM verdict((SELECT format('SELECT %s %s', string_agg(format(call || ' AS c%1$s', i), ', '), rest)
        FROM generate_series(1, calls) i)) line WHERE line NOT LIKE '---%'
$$;
SELECT wide(240, 'sum(id + %s)', 'FROM orders GROUP BY customer');
SELECT wide(260, 'sum(id + %s)', 'FROM orders GROUP BY customer');
SELECT wide(260, 'avg(id + %s)', 'FROM orders');
SELECT wide(500, 'max(id + %s)', 'FROM orders');
SELECT wide(700, 'max(id + %s)', 'FROM orders');
SELECT wide(800, 'id + %s', 'FROM orders UNION SELECT ' || string_agg(i::text, ', ') || ' FROM customers') FROM generate_series(1, 800) i;
SELECT wide(1599, 'id + %s', 'FROM orders UNION SELECT ' || string_agg(i::text, ', ') || ' FROM customers') FROM generate_series(1, 1599) i;

-- So does what calls objects by their names, wherever the conversion is.
CREATE TABLE objects (id int, r regclass, ra regclass[], c regconfig);
CREATE TYPE holder AS (n int, r regclass);
CREATE TABLE holders (h holder);
ALTER TABLE holders ADD gone int;
ALTER TABLE holders DROP gone;
SELECT verdict($$SELECT concat('', r) FROM objects$$);
SELECT verdict('SELECT ra::text FROM objects');
SELECT verdict('SELECT to_json(r), id FROM objects');
SELECT verdict('SELECT row_to_json(o) FROM objects o');
SELECT verdict('SELECT jsonb_agg(r) FROM objects');
SELECT verdict($$SELECT JSON_OBJECT('a': r) FROM objects$$);
SELECT verdict('SELECT h::text FROM holders');
SELECT verdict('SELECT ARRAY[id::oid::regclass]::text FROM objects');
SELECT verdict('SELECT jsonb_populate_record(NULL::holder, to_jsonb(id)) FROM objects');
SELECT verdict($$SELECT pg_input_is_valid(id::text, 'holder') FROM objects$$);
SELECT verdict('SELECT current_database(), id FROM objects');
SELECT verdict('SELECT CURRENT_CATALOG, id FROM objects');
SELECT verdict('SELECT pg_collation_for(status) FROM orders');
-- The objects themselves, and constants, are values like others.
SELECT verdict('SELECT r, ra, id FROM objects');
SELECT verdict($$SELECT id, ts_headline('english', status, 'x'::tsquery), placed::date FROM orders$$);

-- What may change by itself: recomputed when something has changed, too.
SELECT verdict('SELECT id, random() FROM orders');
SELECT verdict('SELECT id, clock_timestamp() AS t FROM orders');
SELECT verdict('SELECT id, nextval(''numbers'') FROM orders');
CREATE FUNCTION unmarked(int) RETURNS int LANGUAGE sql AS 'SELECT $1';
SELECT verdict('SELECT id, unmarked(customer) FROM orders');
-- No single right result: not a stream table at all.
SELECT verdict('SELECT id FROM orders TABLESAMPLE bernoulli (10)');
SELECT verdict('SELECT id FROM orders FOR UPDATE');

-- The gravest reason comes first, the others follow.
SELECT verdict('SELECT o.id, c.name, random() FROM orders o LEFT JOIN customers c ON c.id = o.customer WHERE placed > now() LIMIT 3');

-- Row security counts: its columns, and what it does.
CREATE ROLE circuit_reader;
GRANT ALL ON SCHEMA circuit_refusals TO circuit_reader;
GRANT SELECT ON ALL TABLES IN SCHEMA circuit_refusals TO circuit_reader;
ALTER TABLE orders ENABLE ROW LEVEL SECURITY;
CREATE POLICY paid ON orders USING (status = 'paid');
SET ROLE circuit_reader;
CREATE MATERIALIZED VIEW secured AS SELECT id FROM orders;
RESET ROLE;
SELECT pgtrickle_internal.circuit('secured');
DROP POLICY paid ON orders;
CREATE POLICY known ON orders USING (customer IN (SELECT id FROM customers));
SELECT pgtrickle_internal.circuit('secured');

SET client_min_messages = warning;
DROP SCHEMA circuit_refusals CASCADE;
DROP FOREIGN DATA WRAPPER circuit_fdw CASCADE;
DROP ROLE circuit_reader;
