CREATE SCHEMA circuit_rewrites;
SET search_path = circuit_rewrites, public;
\pset format unaligned
\pset tuples_only on

\getenv srcdir PG_ABS_SRCDIR
\set helpers :srcdir '/data/circuit.sql'
\i :helpers

CREATE TABLE orders (id int PRIMARY KEY, customer int NOT NULL, status text, amount numeric, placed timestamptz, weight float8);
CREATE TABLE customers (id int PRIMARY KEY, name text NOT NULL, email text UNIQUE, region int, profile json);

-- Pass: selection, projection, and only the columns that are read.
SELECT circuit('SELECT id, amount * 2 AS twice FROM orders WHERE status = ''paid''');
SELECT circuit('SELECT o.id, c.name FROM orders o JOIN customers c ON o.customer = c.id, customers d WHERE d.region > c.region');

-- Join aliases become columns of the inputs.
SELECT circuit('SELECT id, j.name FROM (orders JOIN customers USING (id)) AS j');
SELECT circuit('SELECT id, region FROM orders NATURAL JOIN (SELECT id, region FROM customers) c');

-- CTEs are inlined, one input per reference; a recursive one is not.
SELECT circuit('WITH big AS (SELECT id, customer FROM orders WHERE amount > 100), pairs AS (SELECT a.id, b.id AS other FROM big a JOIN big b USING (customer)) SELECT * FROM pairs');
SELECT circuit('WITH RECURSIVE n AS (SELECT 1 AS i UNION ALL SELECT i + 1 FROM n WHERE i < 3) SELECT id FROM orders JOIN n ON id = i');

-- Plain views are expanded.
CREATE VIEW regional AS SELECT region, count(*) AS customers, min(name) AS first FROM customers GROUP BY region;
SELECT circuit('SELECT * FROM regional');

-- A plain SELECT over one grouped subquery is lifted; over two FROM items it is not.
SELECT circuit('WITH r AS (SELECT * FROM regional) SELECT region + 1 AS next, customers FROM r WHERE customers > 3 AND region IS NOT NULL');
SELECT circuit('SELECT r.region, o.id FROM regional r JOIN orders o ON o.id = r.region');

-- An order that nobody looks at is dropped with the columns that were only sorted by; an order under LIMIT, or below an
-- aggregate that depends on it, is not.
SELECT circuit('SELECT id FROM orders ORDER BY amount DESC');
SELECT circuit('SELECT customer, sum(amount) FROM (SELECT * FROM orders ORDER BY placed) o GROUP BY customer');
SELECT circuit('SELECT id FROM orders ORDER BY amount DESC LIMIT 10');
SELECT circuit('SELECT customer, array_agg(id) FROM (SELECT * FROM orders ORDER BY placed) o GROUP BY customer');

-- UNION ALL keeps its legs, converted to the types of the whole; a term keeps the leg its input is in.
SELECT circuit('SELECT id, status FROM orders UNION ALL SELECT region, name FROM customers UNION ALL SELECT 1.5, NULL');
SELECT circuit('SELECT c.name, x.id FROM customers c JOIN (SELECT id, customer FROM orders WHERE amount > 1 UNION ALL (SELECT id, customer FROM orders UNION ALL SELECT id, region FROM customers)) x ON x.customer = c.id');

-- UNION at the top is grouping over UNION ALL, mixed with UNION ALL below it too; anywhere else it is not.
SELECT circuit('SELECT id FROM orders UNION ALL SELECT id FROM customers UNION SELECT region FROM customers');
SELECT circuit('SELECT id FROM orders UNION SELECT id FROM customers UNION ALL SELECT region FROM customers');
SELECT circuit('SELECT id FROM orders EXCEPT SELECT id FROM customers');

-- DISTINCT at the top is grouping by every column; after GROUP BY or below the top it is not.
SELECT circuit('SELECT DISTINCT status, customer FROM orders ORDER BY customer');
SELECT circuit('SELECT DISTINCT count(*) FROM orders GROUP BY customer');
SELECT circuit('SELECT d.status, c.id FROM (SELECT DISTINCT status FROM orders) d, customers c');

-- Whole rows are spelled out.
SELECT circuit('SELECT row_to_json(customers) AS r FROM customers');

-- Subquery outputs nobody reads are not computed, and their columns not captured.
SELECT circuit('SELECT id FROM (SELECT * FROM orders UNION ALL SELECT * FROM orders WHERE amount > 3) o');
SELECT circuit('SELECT o.id FROM (SELECT DISTINCT id, amount FROM orders) o, customers');

SET client_min_messages = warning;
DROP SCHEMA circuit_rewrites CASCADE;
