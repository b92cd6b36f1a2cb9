-- Views of :rows rows of which 1, 10, 50 and 100 % change, refreshed as the choice falls (auto), by delta and by
-- recompute. Each round changes the rows, refreshes the view and its plain twin, and notes the processor time of both; the figure is the
-- ratio of the medians. `first` is the ratio of the first round, which finds the view as its population left it.
-- `write` is the same ratio for what the server itself needs to change as many rows of an ordinary table with the contents and the
-- index of the view (and of one like the state, where there is one): UPDATE, or in a bag DELETE and INSERT. A refresh computes and
-- compares beside that.
\set ON_ERROR_STOP on
\pset border 2
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS pg_trickle;
DROP SCHEMA IF EXISTS bulk CASCADE;
CREATE SCHEMA bulk;
SET search_path = bulk, public;

-- One customer has a hundred orders, as in `schema.sql`.
CREATE TABLE customers (id int PRIMARY KEY, name text NOT NULL, n int NOT NULL DEFAULT 0);
CREATE TABLE orders (id int PRIMARY KEY, customer_id int NOT NULL REFERENCES customers, amount numeric(10,2) NOT NULL,
                     n int NOT NULL DEFAULT 0);
CREATE TABLE lines (id int PRIMARY KEY, order_id int NOT NULL, amount int NOT NULL);
INSERT INTO customers SELECT i, 'customer ' || i FROM generate_series(1, :rows / 100) i;
INSERT INTO orders SELECT i, 1 + i % (:rows / 100), (i % 10000) / 100.0 FROM generate_series(1, :rows) i;
INSERT INTO lines SELECT i, (i + 1) / 2, i % 100 FROM generate_series(1, :rows * 2) i;
CREATE INDEX ON orders (customer_id);
CREATE INDEX ON lines (order_id);
VACUUM (ANALYZE) customers, orders, lines;

CREATE TABLE shapes (number serial, shape text, query text, change text, key text, write text);
INSERT INTO shapes (shape, query, change, key, write) VALUES
    ('join, key', 'SELECT o.id, o.amount, c.name, c.n FROM orders o JOIN customers c ON c.id = o.customer_id',
     'UPDATE customers SET n = n + 1 WHERE id % 100 < $1',
     'id', 'UPDATE bulk.copy SET n = n + 1 WHERE id % 100 < $1'),
    ('join, bag', 'SELECT o.amount, c.name, c.n FROM orders o JOIN customers c ON c.id = o.customer_id',
     'UPDATE customers SET n = n + 1 WHERE id % 100 < $1',
     'pgtrickle.row_image_hash(amount, name, n)',
     'WITH gone AS (DELETE FROM bulk.copy WHERE substr(name, 10)::int % 100 < $1 RETURNING *)
      INSERT INTO bulk.copy SELECT amount, name, n + 1 FROM gone'),
    ('group by', 'SELECT order_id, count(*) AS n, sum(amount) AS total FROM lines GROUP BY order_id',
     'UPDATE lines SET amount = amount + 1 WHERE id % 2 = 1 AND order_id % 100 < $1',
     'order_id', 'WITH state AS (UPDATE bulk.copy_state SET total = total + 1 WHERE order_id % 100 < $1)
      UPDATE bulk.copy SET total = total + 1 WHERE order_id % 100 < $1'),
    ('window', 'SELECT id, n, sum(n) OVER (PARTITION BY customer_id ORDER BY id) AS total FROM orders',
     'UPDATE orders SET n = n + 1 WHERE id % 100 < $1',
     'id', 'UPDATE bulk.copy SET n = n + 1, total = total + 1 WHERE id % 100 < $1');

CREATE TABLE result (number serial, shape text, percent int, strategy text, first float8, ours float8, plain float8,
                     write float8, action text, hot int8, updated int8);

-- What this process has had of the processors, in seconds: other work on the machine does not count. The kernel adds it up when a
-- process sleeps.
CREATE FUNCTION spent() RETURNS float8 LANGUAGE sql
BEGIN ATOMIC
    SELECT pg_sleep(0.0005);
    SELECT split_part(pg_read_file('/proc/self/schedstat'), ' ', 1)::float8 / 1e9;
END;

CREATE PROCEDURE measure(shape shapes, percent int, strategy text, rounds int)
LANGUAGE plpgsql AS $$
DECLARE
    t0 float8; t1 float8; t2 float8; t3 float8;
    ours float8[] := '{}'; plain float8[] := '{}'; write float8[] := '{}';
    outcome text;
BEGIN
    PERFORM set_config('pg_trickle.refresh_strategy', strategy, false);
    EXECUTE 'CREATE MATERIALIZED VIEW bulk.twin AS ' || shape.query;
    EXECUTE 'CREATE MATERIALIZED VIEW bulk.view WITH (pg_trickle.incremental) AS ' || shape.query;
    ANALYZE bulk.view;
    CREATE TABLE bulk.copy AS TABLE bulk.view;
    EXECUTE format('CREATE INDEX ON bulk.copy (%s)', shape.key);
    CREATE TABLE bulk.copy_state WITH (fillfactor = 70) AS TABLE bulk.view;
    EXECUTE format('CREATE INDEX ON bulk.copy_state (%s)', shape.key);
    COMMIT;
    FOR i IN 1 .. rounds LOOP
        EXECUTE shape.change USING percent;
        COMMIT;
        t0 := spent();
        PERFORM pgtrickle.refresh_stream_table('bulk.view');
        COMMIT;
        t1 := spent();
        REFRESH MATERIALIZED VIEW bulk.twin;
        COMMIT;
        t2 := spent();
        IF strategy = 'auto' THEN
            EXECUTE shape.write USING percent;
            COMMIT;
        END IF;
        t3 := spent();
        write := write || t3 - t2;
        ours := ours || t1 - t0;
        plain := plain || t2 - t1;
    END LOOP;
    SELECT string_agg(DISTINCT lower(a.action), ', ') INTO outcome
    FROM (SELECT h.action FROM pgtrickle.pgt_refresh_history h WHERE h.pgt_relid = 'bulk.view'::regclass
          ORDER BY h.refresh_id DESC LIMIT rounds) a;
    INSERT INTO bulk.result (shape, percent, strategy, first, ours, plain, write, action)
    SELECT shape.shape, percent, strategy, ours[1] / plain[1],
           (SELECT percentile_cont(0.5) WITHIN GROUP (ORDER BY t) FROM unnest(ours) t),
           (SELECT percentile_cont(0.5) WITHIN GROUP (ORDER BY t) FROM unnest(plain) t),
           CASE WHEN strategy = 'auto' THEN (SELECT percentile_cont(0.5) WITHIN GROUP (ORDER BY t) FROM unnest(write) t) END,
           outcome;
    PERFORM pg_stat_force_next_flush();
END $$;

-- In a statement of its own: counters are flushed between statements. A row that moves counts as deleted and inserted.
CREATE PROCEDURE finish()
LANGUAGE plpgsql AS $$
BEGIN
    UPDATE bulk.result SET hot = n_tup_hot_upd, updated = n_tup_upd + n_tup_del
    FROM pg_stat_all_tables WHERE relid = 'bulk.view'::regclass AND number = (SELECT max(number) FROM bulk.result);
    DROP MATERIALIZED VIEW bulk.twin, bulk.view;
    DROP TABLE bulk.copy, bulk.copy_state;
END $$;

SELECT statement
FROM shapes, unnest('{1, 10, 50, 100}'::int[]) percent, unnest(:'strategies'::text[]) strategy,
    LATERAL (VALUES
        (1, format('DO $d$ DECLARE s bulk.shapes; BEGIN SELECT * INTO s FROM bulk.shapes WHERE number = %s; '
                   'CALL bulk.measure(s, %s, %L, %s); END $d$', number, percent, strategy, :rounds)),
        (2, 'CALL finish()')) step (step, statement)
ORDER BY number, percent, strategy, step
\gexec

\echo Views of :rows rows: processor time against REFRESH of the plain twin
SELECT shape, percent AS "% changed", strategy, round((ours / plain)::numeric, 2) AS ratio, round(first::numeric, 2) AS first,
       round((write / plain)::numeric, 2) AS write,
       round((ours * 1000)::numeric, 1) AS "ms", round((plain * 1000)::numeric, 1) AS "plain ms", action,
       round(100.0 * hot / nullif(updated, 0)) AS "% heap-only"
FROM result ORDER BY number;
