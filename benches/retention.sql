-- The tables and views of retention.sh, and what measures one statement and the refreshes after it. Two tables are alike, of which
-- one is captured. Of each shape there are two views, of which one is always refreshed by delta and one by recompute.
\set ON_ERROR_STOP on
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS pg_trickle;
DROP SCHEMA IF EXISTS retention CASCADE;
CREATE SCHEMA retention;
SET search_path = retention, public;

CREATE TABLE step (number int GENERATED ALWAYS AS IDENTITY, name text PRIMARY KEY, statement text);
INSERT INTO step (name, statement) VALUES
    ('detach', 'ALTER TABLE %1$s DETACH PARTITION %1$s_1'),
    ('attach', 'ALTER TABLE %1$s ATTACH PARTITION %1$s_1 FOR VALUES IN (1)'),
    ('truncate', 'TRUNCATE %1$s_1'),
    ('drop', 'DROP TABLE %1$s_1'),
    ('insert', 'INSERT INTO %1$s SELECT * FROM made(1, %2$s)'),
    ('delete', 'DELETE FROM %1$s WHERE part = 1'),
    ('create', 'CREATE TABLE %1$s_1 PARTITION OF %1$s FOR VALUES IN (1); INSERT INTO %1$s SELECT * FROM made(1, %2$s)');

CREATE TABLE customers (id int PRIMARY KEY, name text NOT NULL, region int NOT NULL);
INSERT INTO customers SELECT i, 'customer ' || i, i % 100 FROM generate_series(0, 4999) i;
CREATE TABLE plain (part int NOT NULL, id int NOT NULL, customer int NOT NULL, status int NOT NULL, amount numeric(12,2) NOT NULL,
    label text NOT NULL, PRIMARY KEY (part, id)) PARTITION BY LIST (part);
CREATE TABLE captured (LIKE plain INCLUDING ALL) PARTITION BY LIST (part);
CREATE FUNCTION made(part int, rows int) RETURNS SETOF plain LANGUAGE sql AS $$
    SELECT part, i, i % 5000 * 7919 % 5000, i * 31 % 20, i % 10000 / 100.0, 'label ' || i % 100 FROM generate_series(1, rows) i
$$;
SELECT format('CREATE TABLE %1$s_%2$s PARTITION OF %1$s FOR VALUES IN (%2$s)', name, part),
       format('INSERT INTO %1$s SELECT * FROM made(%2$s, %3$s)', name, part, :rows)
FROM unnest('{plain, captured}'::text[]) name, generate_series(1, :partitions) part ORDER BY part
\gexec
VACUUM ANALYZE;

CREATE TABLE shape (name text PRIMARY KEY, query text);
INSERT INTO shape VALUES
    ('filter', 'SELECT part, id, customer, amount FROM captured WHERE status < 5'),
    ('group_by', 'SELECT customer, count(*) AS n, sum(amount) AS total FROM captured GROUP BY customer'),
    ('join', 'SELECT s.part, s.id, s.amount, c.name FROM captured s JOIN customers c ON c.id = s.customer WHERE s.status < 5');
SELECT format('CREATE MATERIALIZED VIEW %s_%s WITH (pg_trickle.incremental) AS %s', name, strategy, query)
FROM shape, unnest('{delta, full}'::text[]) strategy
\gexec
VACUUM ANALYZE;

CREATE TABLE changed (step text, round int, tab text, spent float8, wal float8, buffered numeric);
CREATE TABLE refreshed (step text, round int, shape text, strategy text, spent float8, action text, reason text);

-- Milliseconds: of the clock, or of the processor that this process had for itself, which others cannot disturb. The kernel brings
-- that up to date when the process goes to sleep.
CREATE FUNCTION now_ms(clock text) RETURNS float8 LANGUAGE plpgsql AS $$
BEGIN
    IF clock <> 'cpu' THEN
        RETURN extract(epoch FROM clock_timestamp())::float8 * 1e3;
    END IF;
    PERFORM pg_sleep(0.001);
    RETURN split_part(pg_read_file('/proc/self/schedstat'), ' ', 1)::float8 / 1e6;
END $$;

-- Bytes of the change buffer of `captured`, which is all that the filter reads.
CREATE FUNCTION buffered() RETURNS numeric LANGUAGE sql AS $$
    SELECT max(buffer_bytes) FROM pgtrickle.change_buffer_sizes() WHERE stream_table LIKE '%filter_delta'
$$;

-- One step with both tables, up to the end of its transaction; which is first alternates.
CREATE PROCEDURE change(step text, rows int, round int, clock text) LANGUAGE plpgsql AS $$
DECLARE
    names text[] := CASE round % 2 WHEN 0 THEN '{plain, captured}' ELSE '{captured, plain}' END;
    name text;
    started float8;
    spent float8;
    lsn pg_lsn;
    wal float8;
    before numeric;
BEGIN
    FOREACH name IN ARRAY names LOOP
        before := retention.buffered();
        lsn := pg_current_wal_insert_lsn();
        started := retention.now_ms(clock);
        EXECUTE format((SELECT s.statement FROM step s WHERE s.name = step), name, rows);
        COMMIT;
        spent := retention.now_ms(clock) - started;
        wal := pg_current_wal_insert_lsn() - lsn;
        INSERT INTO changed VALUES (step, round, name, spent, wal, retention.buffered() - before);
        COMMIT;
    END LOOP;
END $$;

-- All views; which strategy is first alternates.
CREATE PROCEDURE refresh(step text, round int, clock text) LANGUAGE plpgsql AS $$
DECLARE
    strategies text[] := CASE round % 2 WHEN 0 THEN '{delta, full}' ELSE '{full, delta}' END;
    shape text;
    strategy text;
    started float8;
    spent float8;
BEGIN
    FOR shape IN SELECT name FROM shape LOOP
        FOREACH strategy IN ARRAY strategies LOOP
            PERFORM set_config('pg_trickle.refresh_strategy', strategy, true);
            started := retention.now_ms(clock);
            EXECUTE format('REFRESH MATERIALIZED VIEW %s_%s', shape, strategy);
            COMMIT;
            spent := retention.now_ms(clock) - started;
            INSERT INTO refreshed SELECT step, round, shape, strategy, spent, h.action, h.reason
                FROM pgtrickle.pgt_refresh_history h WHERE h.pgt_relid = format('%s_%s', shape, strategy)::regclass
                ORDER BY h.refresh_id DESC LIMIT 1;
            COMMIT;
        END LOOP;
    END LOOP;
END $$;

-- The best of all rounds of each.
CREATE VIEW statements AS
    SELECT s.number, s.name AS step, min(c.spent) FILTER (WHERE tab = 'plain') AS plain, min(c.spent) FILTER (WHERE tab = 'captured') AS captured,
           min(c.wal) FILTER (WHERE tab = 'captured') - min(c.wal) FILTER (WHERE tab = 'plain') AS wal,
           max(c.buffered) FILTER (WHERE tab = 'captured') AS buffered
    FROM changed c JOIN step s ON s.name = c.step GROUP BY s.number, s.name;
CREATE VIEW refreshes AS
    SELECT s.number, s.name AS step, r.shape, d.spent AS delta, f.spent AS recompute, d.spent / nullif(f.spent, 0) AS ratio, d.action, d.reason
    FROM step s JOIN (SELECT DISTINCT step, shape FROM refreshed) r ON r.step = s.name,
    LATERAL (SELECT * FROM refreshed WHERE step = s.name AND shape = r.shape AND strategy = 'delta' ORDER BY spent LIMIT 1) d,
    LATERAL (SELECT * FROM refreshed WHERE step = s.name AND shape = r.shape AND strategy = 'full' ORDER BY spent LIMIT 1) f;
