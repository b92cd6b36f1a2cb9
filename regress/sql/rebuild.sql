-- A delta that removes what is not there is never ignored: the view is computed anew, or the refresh fails.
CREATE SCHEMA rebuild;
SET search_path = rebuild;
CREATE TABLE orders (id int PRIMARY KEY, customer int, amount int);
INSERT INTO orders SELECT i, i % 5, i FROM generate_series(1, 50) i;
CREATE MATERIALIZED VIEW totals WITH (pg_trickle.incremental) AS
    SELECT customer, sum(amount) AS total, max(amount) AS biggest FROM orders GROUP BY customer;
CREATE MATERIALIZED VIEW grand WITH (pg_trickle.incremental) AS SELECT sum(total) AS total, count(*) AS n FROM totals;
CREATE UNIQUE INDEX ON totals (biggest);
\getenv srcdir PG_ABS_SRCDIR
\set helpers :srcdir '/data/wrong.sql'
\i :helpers
SET pg_trickle.refresh_strategy = delta;

-- Damage: the state forgets two groups.
SELECT relid::regclass AS state FROM pgtrickle_internal.state WHERE view = 'totals'::regclass \gset
DELETE FROM :state WHERE k1 IN (1, 3);
UPDATE orders SET amount = amount + 1 WHERE id IN (2, 4, 10);
DELETE FROM orders WHERE customer = 3 AND id > 20;
REFRESH MATERIALIZED VIEW totals;
SELECT wrong('totals');
SET pg_trickle.rebuild_mismatched = on;
REFRESH MATERIALIZED VIEW totals;
SELECT wrong('totals');
SELECT action, status FROM pgtrickle.get_refresh_history('totals', 1);
-- What was written before the damage showed, and after, reaches the views above as one change.
REFRESH MATERIALIZED VIEW grand;
SELECT wrong('grand');
SELECT action FROM pgtrickle.get_refresh_history('grand', 1);
-- From then on as ever.
DELETE FROM orders WHERE id % 7 = 0;
REFRESH MATERIALIZED VIEW grand;
SELECT wrong('totals'), wrong('grand');
SELECT action FROM pgtrickle.get_refresh_history('totals', 1);

-- The state is found by the index over its key, not by whichever comes first: an administrator may add others.
CREATE TABLE notes (id int PRIMARY KEY, customer int, note text);
INSERT INTO notes SELECT i, i % 5, 'note ' || i % 3 FROM generate_series(1, 50) i;
CREATE MATERIALIZED VIEW by_customer WITH (pg_trickle.incremental) AS
    SELECT customer, count(*) AS n FROM notes GROUP BY customer;
CREATE MATERIALIZED VIEW by_note WITH (pg_trickle.incremental) AS SELECT note, count(*) AS n FROM notes GROUP BY note;
SELECT relid::regclass AS state, relid::regclass || '_key' AS key
FROM pgtrickle_internal.state WHERE view = 'by_customer'::regclass \gset
CREATE INDEX ON :state (rows);
REINDEX INDEX CONCURRENTLY :key;
SELECT relid::regclass AS state, relid::regclass || '_key' AS key
FROM pgtrickle_internal.state WHERE view = 'by_note'::regclass \gset
CREATE INDEX ON :state (rows);
REINDEX INDEX CONCURRENTLY :key;
UPDATE notes SET customer = 0, note = 'note 0' WHERE id < 7;
SET pg_trickle.rebuild_mismatched = off;
REFRESH MATERIALIZED VIEW by_customer;
REFRESH MATERIALIZED VIEW by_note;
SELECT wrong('by_customer'), wrong('by_note');
RESET pg_trickle.rebuild_mismatched;

-- A user without privileges may not choose.
CREATE ROLE regress_trickle_rebuilder;
SET ROLE regress_trickle_rebuilder;
SET pg_trickle.rebuild_mismatched = off;
RESET ROLE;
DROP ROLE regress_trickle_rebuilder;
SET client_min_messages = warning;
DROP SCHEMA rebuild CASCADE;
