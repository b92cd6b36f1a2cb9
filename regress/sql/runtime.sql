-- Views that refresh themselves: what one session sees of it.
ALTER SYSTEM SET pg_trickle.enabled = on;
SELECT pg_reload_conf();
CREATE FUNCTION scheduler_is(expected boolean) RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
    FOR i IN 1 .. 18000 LOOP
        IF (SELECT scheduler_running FROM pgtrickle.quick_health) = expected THEN RETURN true; END IF;
        PERFORM pg_sleep(0.01);
    END LOOP;
    RETURN false;
END $$;
SELECT scheduler_is(true);

CREATE TABLE orders (id int PRIMARY KEY, customer int NOT NULL, amount int NOT NULL);
INSERT INTO orders SELECT g, g % 5, g FROM generate_series(1, 100) g;
CREATE MATERIALIZED VIEW totals WITH (pg_trickle.incremental) AS
    SELECT customer, count(*) AS n, sum(amount) AS total FROM orders GROUP BY customer;
CREATE MATERIALIZED VIEW big WITH (pg_trickle.incremental, pg_trickle.schedule = '10ms') AS
    SELECT customer, total FROM totals WHERE total > 1000;
CREATE MATERIALIZED VIEW hourly WITH (pg_trickle.incremental, pg_trickle.schedule = '1h') AS
    SELECT max(amount) AS most FROM orders;
CREATE MATERIALIZED VIEW empty WITH (pg_trickle.incremental, pg_trickle.schedule = '10ms') AS
    SELECT amount FROM orders WHERE amount > 1000 WITH NO DATA;

-- A statement, a rolled back savepoint, a prepared transaction.
INSERT INTO orders VALUES (101, 1, 5000);
SELECT pgtrickle.wait_until_fresh('big');
TABLE big ORDER BY customer;
BEGIN;
UPDATE orders SET amount = 6000 WHERE id = 101;
SAVEPOINT s;
DELETE FROM orders;
ROLLBACK TO s;
COMMIT;
SELECT pgtrickle.wait_until_fresh('big');
SELECT total FROM big WHERE customer = 1;
BEGIN;
UPDATE orders SET amount = 7000 WHERE id = 101;
PREPARE TRANSACTION 'runtime';
SELECT pgtrickle.wait_until_fresh('big'), total FROM big WHERE customer = 1;
COMMIT PREPARED 'runtime';
SELECT pgtrickle.wait_until_fresh('big');
SELECT total FROM big WHERE customer = 1;
TRUNCATE orders;
SELECT pgtrickle.wait_until_fresh('big');
SELECT count(*) FROM big;
INSERT INTO orders SELECT g, g % 5, g FROM generate_series(1, 100) g;

-- What the history says; a look that finds nothing leaves no row.
SELECT pgtrickle.wait_until_fresh('big');
SELECT DISTINCT initiated_by, status FROM pgtrickle.pgt_refresh_history WHERE pgt_relid = 'big'::regclass ORDER BY 1;
SELECT count(*) AS before FROM pgtrickle.pgt_refresh_history \gset
UPDATE orders SET amount = amount WHERE id = 1;
SELECT pg_sleep(0.2);
SELECT count(*) - :before AS new FROM pgtrickle.pgt_refresh_history;

-- Later than this test waits, and not at all.
SELECT pgtrickle.wait_until_fresh('hourly', '100ms'), most FROM hourly;
SELECT pgtrickle.wait_until_fresh('empty', '50ms');
SELECT pgtrickle.get_staleness('hourly') BETWEEN 0 AND 600 AS age, pgtrickle.get_staleness('empty');
SELECT pgtrickle.refresh_if_stale('hourly', '1 hour'), pgtrickle.refresh_if_stale('hourly', '0');
SELECT most, pgtrickle.refresh_if_stale('hourly', '0') FROM hourly;
ALTER MATERIALIZED VIEW hourly SET (pg_trickle.schedule = '20ms');
UPDATE orders SET amount = 1000 WHERE id = 1;
SELECT pgtrickle.wait_until_fresh('hourly');
SELECT most FROM hourly;

-- Not in a transaction that has changes of its own.
BEGIN;
DELETE FROM orders WHERE id = 1;
SELECT pgtrickle.wait_until_fresh('hourly');
ROLLBACK;
SELECT pgtrickle.wait_until_fresh('nothing');
SELECT pgtrickle.wait_until_fresh('orders');

-- Pausing all and one.
SELECT pgtrickle.pause_all();
SELECT pgtrickle.pause_all();
UPDATE orders SET amount = 2000 WHERE id = 1;
SELECT pgtrickle.wait_until_fresh('hourly', '200ms');
SELECT pgtrickle.alter_stream_table('hourly', status => 'SUSPENDED');
SELECT pgtrickle.resume_all();
SELECT pgtrickle.wait_until_fresh('big'), pgtrickle.wait_until_fresh('hourly', '200ms');
-- By hand it is refreshed, also as what another view reads, and stays suspended.
CREATE MATERIALIZED VIEW over WITH (pg_trickle.incremental) AS SELECT most + 1 AS more FROM hourly;
REFRESH MATERIALIZED VIEW hourly;
UPDATE orders SET amount = 2001 WHERE id = 1;
REFRESH MATERIALIZED VIEW over;
SELECT status, most, more FROM hourly, over, pgtrickle.pgt_stream_tables WHERE pgt_name = 'hourly';
DROP MATERIALIZED VIEW over;
UPDATE orders SET amount = 2000 WHERE id = 1;
SELECT pgtrickle.resume_stream_table('hourly');
SELECT pgtrickle.wait_until_fresh('hourly');
SELECT most FROM hourly;
CREATE ROLE regress_runtime;
SET ROLE regress_runtime;
SELECT pgtrickle.pause_all();
SELECT pgtrickle.resume_stream_table('hourly');
RESET ROLE;
DROP ROLE regress_runtime;

-- A view that cannot be computed fails at once, what reads it stays put and says why, and the rest goes on.
CREATE MATERIALIZED VIEW shares WITH (pg_trickle.incremental, pg_trickle.schedule = '10ms') AS
    SELECT customer, 1000000 / total AS share FROM totals;
CREATE MATERIALIZED VIEW above WITH (pg_trickle.incremental, pg_trickle.schedule = '10ms') AS
    SELECT count(*) AS n FROM shares WHERE share > 0;
UPDATE orders SET amount = 0 WHERE customer = 2;
SELECT pgtrickle.wait_until_fresh('big'), pgtrickle.wait_until_fresh('above', '100ms');
CREATE FUNCTION status_becomes(view text, expected text) RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
    FOR i IN 1 .. 18000 LOOP
        IF (SELECT status FROM pgtrickle.pgt_stream_tables WHERE pgt_name = view) = expected THEN RETURN true; END IF;
        PERFORM pg_sleep(0.01);
    END LOOP;
    RETURN false;
END $$;
SELECT status_becomes('shares', 'ERROR');
SELECT pgt_name, status, last_error_message, waits_for FROM pgtrickle.pgt_stream_tables WHERE pgt_name IN ('shares', 'above') ORDER BY 1;
SELECT DISTINCT status, error_message FROM pgtrickle.get_refresh_history('shares') WHERE status = 'FAILED';
UPDATE orders SET amount = 10 WHERE customer = 2;
SELECT pgtrickle.wait_until_fresh('above');
SELECT pgt_name, status, consecutive_errors, waits_for FROM pgtrickle.pgt_stream_tables WHERE pgt_name IN ('shares', 'above') ORDER BY 1;

-- Too many failures suspend it.
ALTER SYSTEM SET pg_trickle.max_consecutive_errors = 1;
SELECT pg_reload_conf();
SELECT pg_sleep(0.1);
UPDATE orders SET amount = 0 WHERE customer = 2;
SELECT status_becomes('shares', 'SUSPENDED');
UPDATE orders SET amount = 10 WHERE customer = 2;
SELECT pgtrickle.wait_until_fresh('shares', '200ms');
SELECT pgtrickle.resume_stream_table('shares');
SELECT pgtrickle.wait_until_fresh('above');
SELECT count(*) FROM above, shares WHERE n <> 5;
ALTER SYSTEM RESET pg_trickle.max_consecutive_errors;

-- A view whose sources nobody captures is stale when it is older than its schedule, not at once and for ever.
CREATE MATERIALIZED VIEW clock WITH (pg_trickle.incremental, pg_trickle.schedule = '1h') AS SELECT count(*) AS n, now() AS at FROM orders;
CREATE MATERIALIZED VIEW clock_above WITH (pg_trickle.incremental, pg_trickle.schedule = '1h') AS SELECT at FROM clock;
SELECT pgt_name, stale FROM pgtrickle.stream_tables_info WHERE pgt_name LIKE 'clock%' ORDER BY 1;
SELECT pgtrickle.refresh_if_stale('clock', '0');
SELECT pgtrickle.pause_all();
ALTER MATERIALIZED VIEW clock SET (pg_trickle.schedule = '1ms');
CREATE FUNCTION gets_stale(view text) RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
    FOR i IN 1 .. 18000 LOOP
        IF (SELECT stale FROM pgtrickle.stream_tables_info WHERE pgt_name = view) THEN RETURN true; END IF;
        PERFORM pg_sleep(0.01);
    END LOOP;
    RETURN false;
END $$;
SELECT gets_stale('clock'), gets_stale('clock_above');
ALTER MATERIALIZED VIEW clock SET (pg_trickle.schedule = '1h');
REFRESH MATERIALIZED VIEW clock_above;
SELECT pgt_name, stale FROM pgtrickle.stream_tables_info WHERE pgt_name LIKE 'clock%' ORDER BY 1;
SELECT pgtrickle.resume_all();
DROP MATERIALIZED VIEW clock CASCADE;
DROP FUNCTION gets_stale;

-- One that compares with the clock is refreshed at each tick, though nothing changes.
CREATE TABLE events (at timestamptz);
CREATE MATERIALIZED VIEW happened WITH (pg_trickle.incremental, pg_trickle.schedule = '100ms') AS SELECT at FROM events WHERE at <= now();
INSERT INTO events SELECT clock_timestamp() + interval '1 second';
CREATE FUNCTION has_rows(view regclass) RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE
    found boolean;
BEGIN
    FOR i IN 1 .. 18000 LOOP
        EXECUTE format('SELECT EXISTS (SELECT FROM %s)', view) INTO found;
        IF found THEN RETURN true; END IF;
        PERFORM pg_sleep(0.01);
    END LOOP;
    RETURN false;
END $$;
SELECT has_rows('happened');
DROP MATERIALIZED VIEW happened;
DROP TABLE events;
DROP FUNCTION has_rows;

-- A view that reads itself, at once or by way of others, is refused.
CREATE VIEW plain AS SELECT customer FROM totals;
CREATE MATERIALIZED VIEW upper WITH (pg_trickle.incremental) AS SELECT customer FROM plain;
CREATE MATERIALIZED VIEW top WITH (pg_trickle.incremental) AS SELECT customer FROM upper;
CREATE OR REPLACE VIEW plain AS SELECT customer FROM top;
CREATE OR REPLACE VIEW plain AS SELECT customer FROM upper;
ALTER MATERIALIZED VIEW upper SET (pg_trickle.incremental = false);
CREATE OR REPLACE VIEW plain AS SELECT customer FROM top;
ALTER MATERIALIZED VIEW upper SET (pg_trickle.incremental);
DROP MATERIALIZED VIEW upper CASCADE;
DROP VIEW IF EXISTS plain;

ALTER SYSTEM RESET pg_trickle.enabled;
SELECT pg_reload_conf();
SELECT scheduler_is(false);
DROP TABLE orders CASCADE;
DROP FUNCTION scheduler_is, status_becomes;
