-- Support functions of aggregates ask the server's executor about the aggregate they run for: where a state may live
-- (AggCheckCallContext), what is computed (AggGetAggref), whether the state is shared (AggStateIsShared), and to be called
-- when it goes (AggRegisterCallback). Called by us they must hear what nodeAgg would say.
CREATE SCHEMA support_functions;
SET search_path = support_functions;
SET pg_trickle.refresh_strategy = delta;
\getenv srcdir PG_ABS_SRCDIR
\set helpers :srcdir '/data/wrong.sql'
\i :helpers
CREATE TABLE readings (place int, value numeric, note text);
INSERT INTO readings SELECT g % 3, g % 7 + g / 10.0, 'note ' || g % 5 FROM generate_series(1, 60) g;
-- An ordered set is sorted by what AggGetAggref says, and a callback ends the sort; of two aggregates over the same set each
-- has a state of its own.
CREATE MATERIALIZED VIEW ordered_sets WITH (pg_trickle.incremental) AS
    SELECT place, percentile_disc(0.5) WITHIN GROUP (ORDER BY value) AS median,
           percentile_disc(0.9) WITHIN GROUP (ORDER BY value) AS high,
           percentile_cont(ARRAY[0.1, 0.9]) WITHIN GROUP (ORDER BY value::float8) AS tails,
           mode() WITHIN GROUP (ORDER BY note DESC) AS usual,
           rank(7.5, 'note 3') WITHIN GROUP (ORDER BY value, note) AS rank
    FROM readings GROUP BY place;
-- States of type internal live in the aggregate's memory.
CREATE MATERIALIZED VIEW collected WITH (pg_trickle.incremental) AS
    SELECT place, array_agg(value ORDER BY value, note) AS numbers, string_agg(note, ',' ORDER BY note, value) AS notes,
           jsonb_object_agg(coalesce(note, '-'), value ORDER BY value, note) AS object, stddev(value) AS deviation
    FROM readings GROUP BY place;
SELECT wrong('ordered_sets'), wrong('collected');
-- Groups that change, one that goes and one that comes.
UPDATE readings SET value = value + 1, note = note || '+' WHERE value < 4;
DELETE FROM readings WHERE place = 1 AND value > 8;
INSERT INTO readings VALUES (4, 1, 'only'), (0, NULL, NULL);
REFRESH MATERIALIZED VIEW ordered_sets;
REFRESH MATERIALIZED VIEW collected;
SELECT wrong('ordered_sets'), wrong('collected');
DELETE FROM readings WHERE place IN (1, 4);
REFRESH MATERIALIZED VIEW ordered_sets;
REFRESH MATERIALIZED VIEW collected;
SELECT wrong('ordered_sets'), wrong('collected');
SELECT DISTINCT action FROM pgtrickle.get_refresh_history('ordered_sets', 2);
DROP SCHEMA support_functions CASCADE;
