CREATE SCHEMA circuit_keys;
SET search_path = circuit_keys, public;
\pset format unaligned
\pset tuples_only on

\getenv srcdir PG_ABS_SRCDIR
\set helpers :srcdir '/data/circuit.sql'
\i :helpers

CREATE TABLE orders (id int PRIMARY KEY, customer int NOT NULL, status text, amount numeric, placed timestamptz, weight float8);
CREATE TABLE customers (id int PRIMARY KEY, name text NOT NULL, email text UNIQUE, region int, profile json);

CREATE FUNCTION key(query text) RETURNS SETOF text LANGUAGE sql AS $$
    SELECT line FROM circuit(query) line WHERE line ~ '^(---|key (none|\[))'
$$;

-- A join: what determines a row of every input, and no more.
SELECT key('SELECT status, id FROM orders');
SELECT key('SELECT status FROM orders');
SELECT key('SELECT o.id, c.name, c.id AS cid FROM orders o JOIN customers c ON o.customer = c.id');
SELECT key('SELECT c.id, o.status, o.id AS oid FROM orders o, customers c WHERE c.id = o.customer AND o.status = ''paid''');
SELECT key('SELECT c.id AS cid, o.status FROM orders o JOIN customers c ON o.customer = c.id');
SELECT key('SELECT o.id, c.id AS cid FROM orders o, customers c');
SELECT key('SELECT o.id, c.id AS cid FROM orders o JOIN customers c ON o.customer < c.id');
SELECT key('SELECT a.id, b.name, c.region FROM orders a JOIN customers b ON b.id = a.customer JOIN customers c ON c.id = b.region');
SELECT key('SELECT c.id FROM (SELECT customer FROM orders WHERE id = 3) o JOIN customers c ON c.id = o.customer');
-- Two times that a time zone skips may equal the same point in time.
CREATE TABLE local (t timestamp PRIMARY KEY);
CREATE TABLE global (t timestamptz PRIMARY KEY, n int);
SELECT key('SELECT g.t, n FROM local l JOIN global g ON l.t = g.t');
SELECT key('SELECT l.t, n FROM local l JOIN global g ON l.t = g.t');
SELECT key('SELECT n FROM global WHERE t = ''2026-03-08''::timestamp');
SELECT key('SELECT a.t FROM local a JOIN local b ON a.t = b.t::date');
SET timezone = 'America/New_York';
INSERT INTO local VALUES ('2026-03-08 02:30');
INSERT INTO global VALUES ('2026-03-08 03:30', 1);
CREATE MATERIALIZED VIEW skipped WITH (pg_trickle.incremental) AS SELECT g.t, n FROM local l JOIN global g ON l.t = g.t;
INSERT INTO local VALUES ('2026-03-08 03:30');
REFRESH MATERIALIZED VIEW skipped;
TABLE skipped;
RESET timezone;
-- A conversion that leaves the bytes alone may change what they are equal to.
CREATE TABLE padded (t text PRIMARY KEY, o int);
INSERT INTO padded VALUES ('a', 1), ('a ', 2);
SELECT key('SELECT o FROM (SELECT t::bpchar AS c, o FROM padded) s WHERE c = ''a''');
SELECT key('SELECT o FROM (SELECT t::varchar AS c, o FROM padded) s WHERE c = ''a''');
SELECT key('SELECT t::bpchar FROM padded');
SELECT key('SELECT t::varchar FROM padded');
CREATE MATERIALIZED VIEW trimmed WITH (pg_trickle.incremental) AS SELECT o FROM (SELECT t::bpchar AS c, o FROM padded) s WHERE c = 'a';
UPDATE padded SET o = o + 10;
REFRESH MATERIALIZED VIEW trimmed;
SELECT * FROM trimmed ORDER BY o;
-- Constants: at most one row, or one less column.
SELECT key('SELECT amount FROM orders WHERE id = 7');
SELECT key('SELECT amount FROM orders WHERE id = 7 OR id = 8');
-- Expressions and rows of other kinds are no keys.
SELECT key('SELECT id + 1 AS next FROM orders');
SELECT key('SELECT id, g FROM orders, generate_series(1, 3) g');
SELECT key('SELECT id FROM orders UNION ALL SELECT id FROM orders');

-- Indexes: nullable, deferrable, partial, by expression or under another equality do not count.
SELECT key('SELECT email FROM customers');
CREATE TABLE unique_not_null (a int NOT NULL UNIQUE, b int UNIQUE NULLS NOT DISTINCT, c int NOT NULL UNIQUE DEFERRABLE, d int NOT NULL, e text NOT NULL, f text COLLATE "C" NOT NULL);
CREATE UNIQUE INDEX ON unique_not_null (d) WHERE d > 0;
CREATE UNIQUE INDEX ON unique_not_null ((d + 1));
CREATE UNIQUE INDEX ON unique_not_null (e text_pattern_ops);
CREATE UNIQUE INDEX ON unique_not_null (f) INCLUDE (d);
SELECT key('SELECT a FROM unique_not_null');
SELECT key('SELECT b FROM unique_not_null');
SELECT key('SELECT c FROM unique_not_null');
SELECT key('SELECT d FROM unique_not_null');
SELECT key('SELECT e FROM unique_not_null');
SELECT key('SELECT f FROM unique_not_null');
ALTER TABLE customers ADD CONSTRAINT email_given NOT NULL email NOT VALID;
SELECT key('SELECT email FROM customers');
ALTER TABLE customers VALIDATE CONSTRAINT email_given;
SELECT key('SELECT email FROM customers');

-- An equality the index does not know.
CREATE COLLATION no_case (provider = icu, locale = 'und-u-ks-level2', deterministic = false);
CREATE TABLE names (name text COLLATE no_case PRIMARY KEY, other text NOT NULL);
SELECT key('SELECT name FROM names');
SELECT key('SELECT c.id, n.other FROM customers c JOIN names n ON n.name = c.name COLLATE no_case');
SELECT key('SELECT c.id, n.other FROM customers c JOIN names n ON n.name = c.name COLLATE "C"');

-- Parents: an index of the parent does not cover its children; one of a partitioned table does.
CREATE TABLE parent (a int PRIMARY KEY);
SELECT key('SELECT a FROM parent');
CREATE TABLE child () INHERITS (parent);
SELECT key('SELECT a FROM parent');
CREATE TABLE parted (a int, b int, PRIMARY KEY (a, b)) PARTITION BY LIST (b);
SELECT key('SELECT b, a FROM parted');
SELECT key('SELECT a FROM parted WHERE b = 1');

-- Groups are keyed by their keys when all are shown.
SELECT key('SELECT count(*), status, customer FROM orders GROUP BY customer, status');
SELECT key('SELECT count(*), status FROM orders GROUP BY customer, status');
SELECT key('SELECT count(*), upper(status) AS u FROM orders GROUP BY upper(status)');
SELECT key('SELECT c.name, c.id, count(*) FROM customers c JOIN orders o ON o.customer = c.id GROUP BY c.id');
SELECT key('SELECT count(*) FROM orders');
SELECT key('SELECT DISTINCT status, amount FROM orders');
SELECT key('SELECT id FROM orders UNION SELECT id FROM customers');

-- A stream table is keyed by the index it is applied through.
CREATE MATERIALIZED VIEW totals WITH (pg_trickle.incremental) AS SELECT customer, sum(amount) AS total FROM orders GROUP BY customer;
SELECT key('SELECT total, customer FROM totals');
SELECT key('SELECT c.id, t.total FROM customers c JOIN totals t ON t.customer = c.id');
CREATE MATERIALIZED VIEW bag WITH (pg_trickle.incremental) AS SELECT status FROM orders;
SELECT key('SELECT status FROM bag');

SET client_min_messages = warning;
DROP SCHEMA circuit_keys CASCADE;
