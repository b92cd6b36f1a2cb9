-- orders (:rows rows) and customers (rows / 100), usual keys and indexes.
\set ON_ERROR_STOP on
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS pg_trickle;
DROP SCHEMA IF EXISTS bench CASCADE;
CREATE SCHEMA bench;
SET search_path = bench, public;

CREATE TABLE customers (
    id     int  PRIMARY KEY,
    name   text NOT NULL,
    region int  NOT NULL
);
CREATE TABLE orders (
    id          int PRIMARY KEY,
    customer_id int NOT NULL REFERENCES customers,
    amount      numeric(10,2) NOT NULL,
    status      text NOT NULL
);
INSERT INTO customers SELECT i, 'customer ' || i, i % 100 FROM generate_series(1, greatest(:rows / 100, 1)) i;
INSERT INTO orders
    SELECT i, 1 + i % greatest(:rows / 100, 1), (i % 10000) / 100.0, (ARRAY['active', 'paid', 'shipped'])[1 + i % 3]
    FROM generate_series(1, :rows) i;
CREATE INDEX ON orders (customer_id);
VACUUM (ANALYZE) customers, orders;

-- Median time of a refresh, in microseconds in the server, after each of :n changes made by `change` (which may use $1, the
-- number of the round). Each round is a transaction of its own, so that frontiers and dead rows are as in real life.
CREATE PROCEDURE refresh_time(view text, change text, rounds int, INOUT median float8 DEFAULT NULL)
LANGUAGE plpgsql AS $$
DECLARE
    t0 timestamptz;
    times float8[] := '{}';
BEGIN
    FOR i IN 1 .. rounds + 10 LOOP
        IF change <> '' THEN EXECUTE change USING i; END IF;
        COMMIT;
        t0 := clock_timestamp();
        PERFORM pgtrickle.refresh_stream_table(view);
        IF i > 10 THEN
            times := times || extract(epoch FROM clock_timestamp() - t0) * 1e6;
        END IF;
        COMMIT;
    END LOOP;
    SELECT percentile_cont(0.5) WITHIN GROUP (ORDER BY t) INTO median FROM unnest(times) t;
END $$;

-- Median time of one statement, in microseconds.
CREATE PROCEDURE statement_time(statement text, rounds int, INOUT median float8 DEFAULT NULL)
LANGUAGE plpgsql AS $$
DECLARE
    t0 timestamptz;
    times float8[] := '{}';
BEGIN
    FOR i IN 1 .. rounds LOOP
        t0 := clock_timestamp();
        EXECUTE statement;
        times := times || extract(epoch FROM clock_timestamp() - t0) * 1e6;
        COMMIT;
    END LOOP;
    SELECT percentile_cont(0.5) WITHIN GROUP (ORDER BY t) INTO median FROM unnest(times) t;
END $$;

-- The unit that says how fast the machine is just now: a plain UPDATE of one row by key, in a loop, in microseconds. The
-- figures to reach were set where it took 5.
CREATE PROCEDURE unit(INOUT us float8 DEFAULT NULL)
LANGUAGE plpgsql AS $$
DECLARE
    t0 timestamptz;
    spent float8;
BEGIN
    FOR round IN 1 .. 7 LOOP
        t0 := clock_timestamp();
        FOR i IN 1 .. 1000 LOOP
            UPDATE bench.unit SET n = n + 1 WHERE id = i;
        END LOOP;
        spent := extract(epoch FROM clock_timestamp() - t0) * 1e3;
        us := least(us, spent);
        COMMIT;
    END LOOP;
END $$;
CREATE TABLE unit AS SELECT i AS id, i AS n, i::numeric AS amount, 'row ' || i AS note FROM generate_series(1, 1000) i;
ALTER TABLE unit ADD PRIMARY KEY (id);
VACUUM ANALYZE unit;

CREATE TABLE result (number serial, work text, us float8, reach text, baseline float8);
