CREATE SCHEMA circuit_grouping;
SET search_path = circuit_grouping, public;
\pset format unaligned
\pset tuples_only on

\getenv srcdir PG_ABS_SRCDIR
\set helpers :srcdir '/data/circuit.sql'
\i :helpers

CREATE TABLE orders (id int PRIMARY KEY, customer int NOT NULL, status text, amount numeric, placed timestamptz, weight float8);
CREATE TABLE customers (id int PRIMARY KEY, name text NOT NULL, email text UNIQUE, region int, profile json);

-- Keys first, then arguments and filters, equal ones once; outputs and HAVING over keys and results.
SELECT circuit('SELECT customer, sum(amount) / count(*) AS mean, sum(amount) FILTER (WHERE status = ''paid'') AS paid FROM orders GROUP BY customer HAVING max(amount) > 10 AND count(*) > 1');
SELECT circuit('SELECT amount % 10 + 1 AS m, count(status) FROM orders GROUP BY amount % 10, amount % 10 + 1 ORDER BY sum(id)');

-- Global aggregates: one group, always there; HAVING alone and GROUP BY () too.
SELECT circuit('SELECT count(*), min(placed) FROM orders');
SELECT circuit('SELECT 1 AS one FROM orders HAVING true');
SELECT circuit('SELECT sum(amount) FROM orders GROUP BY ()');

-- Grouping without aggregates.
SELECT circuit('SELECT status FROM orders GROUP BY status');

-- Columns determined by a grouped primary key are keys as well, if they can be compared.
SELECT circuit('SELECT c.name, sum(o.amount) FROM customers c JOIN orders o ON o.customer = c.id GROUP BY c.id');
SELECT circuit('SELECT c.id, c.profile, sum(o.amount) FROM customers c JOIN orders o ON o.customer = c.id GROUP BY c.id');

-- Values that are equal need not be identical.
CREATE COLLATION no_case (provider = icu, locale = 'und-u-ks-level2', deterministic = false);
CREATE TABLE kinds (t text, c char(3), b bpchar, n numeric, f float8, i int, x text COLLATE no_case, a int[], v varchar(5));
SELECT circuit('SELECT t, c, b, n, f, i, x, a, v FROM kinds GROUP BY t, c, b, n, f, i, x, a, v');

-- A type that cannot be sorted cannot be a key.
CREATE TABLE unsortable (x xid);
SELECT circuit('SELECT x, count(*) FROM unsortable GROUP BY x');

-- ORDER BY may give groups, or what is distinct, another equality than that of the type, coarser or finer.
CREATE FUNCTION less(int, int) RETURNS bool IMMUTABLE LANGUAGE sql AS 'SELECT abs($1) < abs($2)';
CREATE FUNCTION same(int, int) RETURNS bool IMMUTABLE LANGUAGE sql AS 'SELECT abs($1) = abs($2)';
CREATE FUNCTION compare(int, int) RETURNS int IMMUTABLE LANGUAGE sql AS 'SELECT btint4cmp(abs($1), abs($2))';
CREATE OPERATOR |<| (FUNCTION = less, LEFTARG = int, RIGHTARG = int);
CREATE OPERATOR |=| (FUNCTION = same, LEFTARG = int, RIGHTARG = int, COMMUTATOR = |=|, MERGES);
CREATE OPERATOR CLASS absolute FOR TYPE int USING btree AS OPERATOR 1 |<|, OPERATOR 3 |=|, FUNCTION 1 compare(int, int);
CREATE FUNCTION less(interval, interval) RETURNS bool IMMUTABLE LANGUAGE sql AS 'SELECT $1::text < $2::text COLLATE "C"';
CREATE FUNCTION same(interval, interval) RETURNS bool IMMUTABLE LANGUAGE sql AS 'SELECT $1::text = $2::text';
CREATE FUNCTION compare(interval, interval) RETURNS int IMMUTABLE LANGUAGE sql AS 'SELECT bttextcmp($1::text, $2::text COLLATE "C")';
CREATE OPERATOR |<| (FUNCTION = less, LEFTARG = interval, RIGHTARG = interval);
CREATE OPERATOR |=| (FUNCTION = same, LEFTARG = interval, RIGHTARG = interval, COMMUTATOR = |=|, MERGES);
CREATE OPERATOR CLASS literal FOR TYPE interval USING btree AS OPERATOR 1 |<|, OPERATOR 3 |=|, FUNCTION 1 compare(interval, interval);
SELECT circuit('SELECT id, count(*) FROM orders GROUP BY id ORDER BY id USING |<|');
SELECT circuit('SELECT id, count(*) FROM orders GROUP BY id ORDER BY id USING >');
CREATE TABLE spans (i int, s interval);
INSERT INTO spans VALUES (1, '1 month'), (-1, '1 month'), (2, '2 days');
CREATE MATERIALIZED VIEW by_size WITH (pg_trickle.incremental) AS SELECT i, count(*) FROM spans GROUP BY i ORDER BY i USING |<|;
CREATE MATERIALIZED VIEW by_text WITH (pg_trickle.incremental) AS SELECT DISTINCT s FROM spans ORDER BY s USING |<|;
INSERT INTO spans VALUES (-2, '30 days');
REFRESH MATERIALIZED VIEW by_size;
REFRESH MATERIALIZED VIEW by_text;
SELECT abs(i), count FROM by_size ORDER BY 1;
SELECT * FROM by_text ORDER BY s::text;

-- Abilities come from pg_aggregate. Exact types with an inverse: both ways.
SELECT circuit('SELECT count(*) AS a, count(id) AS b, sum(id) AS c, sum(amount) AS d, avg(id) AS e, avg(amount) AS f, stddev(amount) AS g, var_pop(id) AS h, sum(placed - placed) AS i FROM orders');
-- Floating point never is subtracted from.
SELECT circuit('SELECT sum(weight) AS a, avg(weight) AS b, corr(weight, weight) AS c, sum(weight::float4) AS d, stddev(weight) AS e FROM orders');
-- Extremes: a removal matters when it was the extreme. DISTINCT changes nothing about them.
SELECT circuit('SELECT min(id) AS a, max(status) AS b, min(DISTINCT amount) AS c, bool_and(id > 3) AS d, max(weight) AS e FROM orders');
-- Other states that can be kept: insertions only.
SELECT circuit('SELECT bit_or(id) AS a, any_value(status) AS b, string_agg(status, '','') AS c, array_agg(id) AS d, range_agg(int4range(id, id + 1)) AS e FROM orders');
-- The rest is recomputed by group: DISTINCT, ORDER BY, ordered sets, states that cannot be kept.
SELECT circuit('SELECT count(DISTINCT status) AS a, array_agg(id ORDER BY amount DESC) AS b, percentile_cont(0.5) WITHIN GROUP (ORDER BY weight) AS c, mode() WITHIN GROUP (ORDER BY status) AS d, rank(customer + 1) WITHIN GROUP (ORDER BY id) AS e, json_agg(status) AS f, sum(DISTINCT amount) AS g FROM orders GROUP BY customer');

-- User-defined aggregates are as able as their catalog row says.
CREATE AGGREGATE total(int) (SFUNC = int4_sum, STYPE = int8);
CREATE AGGREGATE total_both_ways(int) (SFUNC = int4_sum, STYPE = int8, MSFUNC = int4_avg_accum, MINVFUNC = int4_avg_accum_inv, MSTYPE = _int8, MINITCOND = '{0,0}', MFINALFUNC = int2int4_sum);
CREATE FUNCTION float_minus(float8, float8) RETURNS float8 IMMUTABLE STRICT LANGUAGE sql AS 'SELECT $1 - $2';
CREATE AGGREGATE drifting(float8) (SFUNC = float8pl, STYPE = float8, MSFUNC = float8pl, MINVFUNC = float_minus, MSTYPE = float8);
CREATE FUNCTION volatile_plus(int, int) RETURNS int VOLATILE LANGUAGE sql AS 'SELECT $1 + $2';
CREATE AGGREGATE unsteady(int) (SFUNC = volatile_plus, STYPE = int);
CREATE AGGREGATE first_of(anyelement) (SFUNC = any_value_transfn, STYPE = anyelement);
SELECT circuit('SELECT total(id) AS a, total_both_ways(id) AS b, drifting(weight) AS c, first_of(status) AS d FROM orders');
SELECT circuit('SELECT unsteady(id) FROM orders');

SET client_min_messages = warning;
DROP SCHEMA circuit_grouping CASCADE;
