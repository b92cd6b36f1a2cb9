-- The tables and views of choice.sh, and what measures one refresh.
\set ON_ERROR_STOP on
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS pg_trickle;
DROP SCHEMA IF EXISTS choice CASCADE;
CREATE SCHEMA choice;
SET search_path = choice, public;

CREATE TABLE shape (
    number int GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name   text,
    query  text,
    change text -- what SET of an UPDATE
);
INSERT INTO shape (name, query, change) VALUES
    ('filter, keyed', 'SELECT id, customer, amount FROM sales WHERE status < 9', 'amount = amount + 1'),
    ('filter, bag', 'SELECT customer, status, amount FROM sales WHERE status < 9', 'amount = amount + 1'),
    ('join', 'SELECT s.id, s.amount, c.name FROM sales s JOIN customers c ON c.id = s.customer', 'amount = amount + 1'),
    ('join, group by', 'SELECT c.region, count(*) AS n, sum(s.amount) AS total FROM sales s JOIN customers c ON c.id = s.customer
        GROUP BY c.region', 'amount = amount + 1'),
    ('min, max', 'SELECT customer, min(amount) AS low, max(amount) AS high FROM sales GROUP BY customer', 'amount = amount + 1'),
    ('count(distinct)', 'SELECT status, count(DISTINCT one) AS n, sum(units) AS units FROM sales GROUP BY status', 'units = units + 1'),
    ('sum(float8)', 'SELECT customer, sum(weight) AS weight, avg(weight) AS mean FROM sales GROUP BY customer', 'weight = weight + 1'),
    ('array_agg, ordered', 'SELECT customer, array_agg(units ORDER BY id) AS units, string_agg(label, '','' ORDER BY id) AS labels
        FROM sales GROUP BY customer', 'units = units + 1'),
    ('distinct', 'SELECT DISTINCT customer, status FROM sales', 'status = (status + 1) % 20'),
    ('union all', 'SELECT id, amount FROM sales WHERE status < 5 UNION ALL SELECT id + 10000000, amount * 2 FROM sales WHERE status > 4',
        'amount = amount + 1'),
    -- Beyond the first ten: one group for all, values that change, and groups found by an index.
    ('global sum(float8)', 'SELECT sum(weight) AS weight, max(amount) AS high FROM sales', 'weight = weight + 1'),
    ('count(distinct), new', 'SELECT status, count(DISTINCT units) AS n FROM sales GROUP BY status', 'units = units + 1'),
    ('min, indexed', 'SELECT customer, region, min(units) AS low FROM indexed GROUP BY customer, region', 'units = units + 1');

CREATE TABLE result (shape int, rows int, strategy text, spent float8, action text, delta float8, full_ float8);

CREATE PROCEDURE set_up(shape int, rows int) LANGUAGE plpgsql AS $$
DECLARE
    source text := (SELECT CASE WHEN s.query LIKE '%FROM indexed%' THEN 'indexed' ELSE 'sales' END FROM shape s WHERE number = shape);
BEGIN
    PERFORM setseed(0.5);
    DROP MATERIALIZED VIEW IF EXISTS view;
    DROP TABLE IF EXISTS sales, indexed, customers;
    CREATE TABLE customers (id int PRIMARY KEY, name text NOT NULL, region int NOT NULL);
    INSERT INTO customers SELECT i, 'customer ' || i, i % 100 FROM generate_series(0, greatest(rows / 100, 1) - 1) i;
    EXECUTE format('CREATE TABLE %I (
        id int PRIMARY KEY, customer int NOT NULL, region int NOT NULL, status int NOT NULL, one int NOT NULL, units int NOT NULL,
        amount numeric(12,2) NOT NULL, weight float8 NOT NULL, label text NOT NULL)', source);
    -- Values have nothing to do with ids, so that changed rows are spread over the groups.
    EXECUTE format('INSERT INTO %I SELECT i, random(0, greatest($1 / 100, 1) - 1), random(0, 9), random(0, 19), 1, random(0, 999),
        random(0, 9999) / 100.0, random(0, 1000) / 7.0, ''label '' || i %% 100 FROM generate_series(1, $1) i', source) USING rows;
    IF source = 'indexed' THEN
        CREATE INDEX ON indexed (customer, region);
    END IF;
    EXECUTE format('CREATE MATERIALIZED VIEW view WITH (pg_trickle.incremental) AS %s', (SELECT s.query FROM shape s WHERE number = shape));
END $$;

-- Changes so many rows, spread evenly over the table.
CREATE PROCEDURE change(shape int, changed int, round int) LANGUAGE plpgsql AS $$
DECLARE
    source regclass := coalesce(to_regclass('indexed'), to_regclass('sales'));
    total int;
BEGIN
    EXECUTE format('SELECT count(*) FROM %s', source) INTO total;
    EXECUTE format('UPDATE %s SET %s WHERE id %% $1 = $2 %% $1', source, (SELECT s.change FROM shape s WHERE number = shape))
        USING total / changed, round;
END $$;

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

CREATE PROCEDURE refresh(shape int, changed int, strategy text, clock text) LANGUAGE plpgsql AS $$
DECLARE
    started float8;
    explained jsonb;
    line text;
BEGIN
    EXECUTE 'EXPLAIN (FORMAT JSON) REFRESH MATERIALIZED VIEW view' INTO line;
    explained := line::jsonb -> 0;
    PERFORM set_config('pg_trickle.refresh_strategy', strategy, true);
    started := now_ms(clock);
    REFRESH MATERIALIZED VIEW view;
    INSERT INTO result VALUES (shape, changed, strategy, now_ms(clock) - started,
        (SELECT action FROM pgtrickle.get_refresh_history('choice.view', 1)),
        (explained ->> 'Delta Cost')::float8, (explained ->> 'Recompute Cost')::float8);
END $$;

-- The best of all rounds of each; if the delta was chosen in any, the best of these.
CREATE VIEW summary AS
    SELECT s.number, s.name, r.rows, d.spent AS delta, f.spent AS recompute, a.spent AS auto, a.action,
           d.spent / f.spent AS ratio, d.delta / d.full_ AS estimated, a.spent / f.spent AS got
    FROM shape s
    JOIN (SELECT DISTINCT shape, rows FROM result) r ON r.shape = s.number,
    LATERAL (SELECT * FROM result WHERE shape = r.shape AND rows = r.rows AND strategy = 'delta' ORDER BY spent LIMIT 1) d,
    LATERAL (SELECT * FROM result WHERE shape = r.shape AND rows = r.rows AND strategy = 'full' ORDER BY spent LIMIT 1) f,
    LATERAL (SELECT * FROM result WHERE shape = r.shape AND rows = r.rows AND strategy = 'auto'
        ORDER BY action <> 'DIFFERENTIAL', spent LIMIT 1) a;
