-- Delta or recompute, whichever is cheaper: the estimates must tell small changes from large ones, also where every input of
-- a join has changed and unchanged rows are read as new minus delta.
CREATE SCHEMA choice;
SET search_path = choice;
CREATE TABLE customers (id int PRIMARY KEY, region int NOT NULL);
CREATE TABLE orders (id int PRIMARY KEY, customer int NOT NULL, status int NOT NULL);
CREATE TABLE items (orders int, line int, amount int NOT NULL, PRIMARY KEY (orders, line));
INSERT INTO customers SELECT i, i % 20 FROM generate_series(1, 1000) i;
INSERT INTO orders SELECT i, i % 1000 + 1, i % 4 FROM generate_series(1, 20000) i;
INSERT INTO items SELECT i / 2, i % 2, i % 100 FROM generate_series(2, 40001) i;
CREATE INDEX ON orders (customer);
VACUUM ANALYZE customers, orders, items;
CREATE MATERIALIZED VIEW sales WITH (pg_trickle.incremental) AS
    SELECT region, count(*) AS n, sum(amount) AS total
    FROM items JOIN orders ON orders.id = items.orders JOIN customers ON customers.id = customer WHERE status > 0 GROUP BY region;
CREATE MATERIALIZED VIEW lines WITH (pg_trickle.incremental) AS
    SELECT orders, line, amount, customer, region
    FROM items JOIN orders ON orders.id = items.orders JOIN customers ON customers.id = customer;
ANALYZE sales, lines;
CREATE PROCEDURE refresh() LANGUAGE plpgsql AS $$
DECLARE
    view text;
BEGIN
    FOREACH view IN ARRAY ARRAY['sales', 'lines'] LOOP
        PERFORM pgtrickle.refresh_stream_table(view);
        RAISE NOTICE '%: %', view, (SELECT action FROM pgtrickle.get_refresh_history(view, 1));
    END LOOP;
END $$;

-- A few rows of every input.
UPDATE customers SET region = region + 1 WHERE id = 7;
UPDATE orders SET status = 2 WHERE id BETWEEN 100 AND 109;
INSERT INTO items VALUES (100, 7, 1), (101, 7, 2);
DELETE FROM items WHERE orders = 300;
CALL refresh();
-- One row.
UPDATE items SET amount = 1000 WHERE orders = 5 AND line = 1;
CALL refresh();
-- All rows of every input.
UPDATE customers SET region = region + 1;
UPDATE orders SET status = status + 1;
UPDATE items SET amount = amount + 1;
CALL refresh();
-- A few again.
DELETE FROM orders WHERE id = 17;
CALL refresh();
SELECT count(*) AS wrong FROM (TABLE sales EXCEPT ALL SELECT region, count(*) AS n, sum(amount) AS total
    FROM items JOIN orders ON orders.id = items.orders JOIN customers ON customers.id = customer WHERE status > 0 GROUP BY region);
SELECT count(*) AS wrong FROM (TABLE lines EXCEPT ALL SELECT orders, line, amount, customer, region
    FROM items JOIN orders ON orders.id = items.orders JOIN customers ON customers.id = customer);

SET client_min_messages = warning;
DROP SCHEMA choice CASCADE;
