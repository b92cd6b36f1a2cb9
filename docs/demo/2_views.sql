\echo
\echo '== 2. Materialized views, told to maintain themselves ============================'
\echo
\echo '-- One option makes an ordinary materialized view a stream table:'
\set ECHO queries
CREATE MATERIALIZED VIEW open_orders
  WITH (pg_trickle.incremental, pg_trickle.schedule = '30s') AS
  SELECT o.order_id, o.ordered_at, o.status, c.name, c.region
  FROM orders o JOIN customers c USING (customer_id)
  WHERE o.status IN ('new', 'paid');

CREATE MATERIALIZED VIEW revenue
  WITH (pg_trickle.incremental, pg_trickle.schedule = '1m') AS
  SELECT c.region, p.category,
         count(*) AS lines, sum(i.quantity) AS pieces, sum(i.quantity * i.price) AS amount
  FROM order_items i
  JOIN orders o USING (order_id)
  JOIN customers c USING (customer_id)
  JOIN products p USING (product_id)
  WHERE o.status <> 'returned'
  GROUP BY c.region, p.category;
\set ECHO none

\echo '-- A function does the same for programs that prefer one:'
\set ECHO queries
SELECT pgtrickle.create_stream_table(
  name     => 'shop.best_customers',
  query    => 'SELECT customer_id, name, count(DISTINCT order_id) AS orders, sum(quantity * price) AS spent
               FROM shop.customers JOIN shop.orders USING (customer_id) JOIN shop.order_items USING (order_id)
               GROUP BY customer_id, name HAVING sum(quantity * price) > 10000',
  schedule => '5m');
\set ECHO none

\echo '-- And a view that you have already is adopted as it stands:'
\set ECHO queries
CREATE MATERIALIZED VIEW never_ordered AS
  SELECT customer_id, name, region FROM customers c
  WHERE NOT EXISTS (SELECT FROM orders o WHERE o.customer_id = c.customer_id);
ALTER MATERIALIZED VIEW never_ordered SET (pg_trickle.incremental = true);

SELECT name, status, refresh_mode, schedule, is_populated FROM pgtrickle.pgt_status() ORDER BY name;
\set ECHO none

\echo '-- They are real materialized views. They take indexes, grants, comments and pg_dump:'
\set ECHO queries
CREATE INDEX ON open_orders (region);
SELECT * FROM revenue WHERE category = 'garden' ORDER BY region;
\set ECHO none

\echo '-- Left alone they refresh themselves, as their schedules say. To watch each step we stop that for a while:'
\set ECHO queries
SELECT pgtrickle.pause_all();
\set ECHO none
