\echo
\echo '== 6. And by itself ==============================================================='
\echo
\echo '-- Scheduled refreshes go on. Nobody refreshes by hand from here:'
\set ECHO queries
ALTER MATERIALIZED VIEW revenue SET (pg_trickle.schedule = '100ms');
SELECT pgtrickle.resume_all();
SELECT amount FROM revenue WHERE region = 'Oceania' AND category = 'garden';
INSERT INTO orders (order_id, customer_id, ordered_at, status) VALUES (900002, 7, now(), 'paid');
INSERT INTO order_items
  SELECT 900002, 1, product_id, 1, 1000000 FROM products WHERE category = 'garden' ORDER BY product_id LIMIT 1;
SELECT pgtrickle.wait_until_fresh('shop.revenue');
SELECT amount FROM revenue WHERE region = 'Oceania' AND category = 'garden';
SELECT action, initiated_by, rows_updated, duration_ms FROM pgtrickle.pgt_refresh_history
WHERE pgt_relid = 'revenue'::regclass ORDER BY refresh_id DESC LIMIT 1;
\set ECHO none
