\echo
\echo '== 3. The tables change, and a refresh brings in just the changes ================'
\echo
\echo '-- Somebody orders, somebody pays, a parcel comes back, a customer moves:'
\set ECHO queries
BEGIN;
INSERT INTO orders (order_id, customer_id, ordered_at, status) VALUES (900001, 42, now(), 'new');
INSERT INTO order_items VALUES (900001, 1, 4, 10, 99.50), (900001, 2, 9, 1, 12.00);
UPDATE orders SET status = 'paid' WHERE order_id = 900001;
UPDATE orders SET status = 'returned' WHERE order_id BETWEEN 1000 AND 1009;
UPDATE customers SET region = 'Oceania' WHERE customer_id = 7;
DELETE FROM orders WHERE order_id = 199999;
COMMIT;

SELECT stream_table, source_table, pending_rows FROM pgtrickle.change_buffer_sizes()
WHERE pending_rows > 0 ORDER BY 1, 2;

REFRESH MATERIALIZED VIEW open_orders;
REFRESH MATERIALIZED VIEW revenue;
REFRESH MATERIALIZED VIEW shop.best_customers;
REFRESH MATERIALIZED VIEW never_ordered;

SELECT * FROM open_orders WHERE order_id = 900001;
SELECT * FROM revenue WHERE category = 'garden' ORDER BY region;

SELECT data_timestamp::timestamp(0), action, status, rows_inserted, rows_deleted, duration_ms
FROM pgtrickle.get_refresh_history('shop.revenue', 3);
\set ECHO none

\echo '-- Is it right? The view and its query, compared as multisets, must not differ:'
CREATE VIEW revenue_by_hand AS
  SELECT c.region, p.category, count(*) AS lines, sum(i.quantity) AS pieces, sum(i.quantity * i.price) AS amount
  FROM order_items i JOIN orders o USING (order_id) JOIN customers c USING (customer_id) JOIN products p USING (product_id)
  WHERE o.status <> 'returned' GROUP BY c.region, p.category;
\set ECHO queries
SELECT count(*) AS differences FROM (
  (TABLE revenue EXCEPT ALL TABLE revenue_by_hand) UNION ALL
  (TABLE revenue_by_hand EXCEPT ALL TABLE revenue)) AS d;
\set ECHO none
