-- What is kept of an aggregate is decided once: the circuit, the layout of the state table, the advice and the refresh agree.
CREATE SCHEMA aggregate_resolution;
SET search_path = aggregate_resolution, public;
\pset format unaligned
\pset tuples_only on

\getenv srcdir PG_ABS_SRCDIR
\set helpers :srcdir '/data/circuit.sql'
\i :helpers

CREATE TABLE sales (id int PRIMARY KEY, shop int, amount numeric);
INSERT INTO sales SELECT n, n % 3, n FROM generate_series(1, 30) n;

-- The final function of the moving form may change the state: it cannot be kept, so that groups are recomputed.
CREATE AGGREGATE total(int) (
    SFUNC = int4_sum, STYPE = int8,
    MSFUNC = int4_avg_accum, MINVFUNC = int4_avg_accum_inv, MSTYPE = int8[], MINITCOND = '{0,0}',
    MFINALFUNC = int2int4_sum, MFINALFUNC_MODIFY = READ_WRITE);
SELECT circuit('SELECT shop, total(id) FROM sales GROUP BY shop');
SELECT * FROM pgtrickle.validate_query('SELECT shop, total(id) FROM aggregate_resolution.sales GROUP BY shop') v WHERE v::text LIKE '%index%';

-- So may that of the plain form.
CREATE AGGREGATE mean(float8) (
    SFUNC = float8_accum, STYPE = float8[], INITCOND = '{0,0,0}', FINALFUNC = float8_avg, FINALFUNC_MODIFY = SHAREABLE);
SELECT circuit('SELECT shop, mean(amount::float8) FROM sales GROUP BY shop');

-- An internal state that is stored comes back by being combined with nothing, for which this one has no function.
CREATE AGGREGATE internal_mean(numeric) (
    SFUNC = numeric_avg_accum, STYPE = internal, FINALFUNC = numeric_avg,
    SERIALFUNC = numeric_avg_serialize, DESERIALFUNC = numeric_avg_deserialize);
SELECT circuit('SELECT shop, internal_mean(amount) FROM sales GROUP BY shop');

CREATE MATERIALIZED VIEW shops WITH (pg_trickle.incremental) AS
    SELECT shop, total(id), mean(amount::float8), internal_mean(amount), avg(amount) FROM sales GROUP BY shop;
SELECT attname, atttypid::regtype FROM pg_attribute
    WHERE attrelid = (SELECT relid FROM pgtrickle_internal.state WHERE view = 'shops'::regclass) AND attname ~ '^s[0-9]' ORDER BY attnum;
SET pg_trickle.refresh_strategy = delta;
UPDATE sales SET amount = amount + 1 WHERE id IN (1, 2);
DELETE FROM sales WHERE id = 3;
REFRESH MATERIALIZED VIEW shops;
TABLE shops ORDER BY shop;
RESET pg_trickle.refresh_strategy;

-- An internal state is stored as a bytea, not as the pointer it is in memory: so many do not fit a row, and the view is recomputed.
\set ECHO none
SELECT format('CREATE MATERIALIZED VIEW sums WITH (pg_trickle.incremental) AS SELECT shop, %s FROM sales GROUP BY shop',
              string_agg(format('sum(amount + %s) AS s%s', n, n), ', ')) FROM generate_series(1, 450) n \gexec
\set ECHO all
SELECT effective_mode, downgrade_reason FROM pgtrickle.explain_refresh_mode('aggregate_resolution.sums');
UPDATE sales SET amount = amount + 1 WHERE id = 1;
REFRESH MATERIALIZED VIEW sums;
SELECT shop, s1, s450 FROM sums ORDER BY shop;

DROP SCHEMA aggregate_resolution CASCADE;
