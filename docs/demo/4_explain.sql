\echo
\echo '== 4. How: the plan of a refresh reads changes instead of tables ================='
\echo
\set ECHO queries
UPDATE orders SET status = 'shipped' WHERE order_id = 900001;

EXPLAIN (ANALYZE, COSTS OFF, TIMING OFF, BUFFERS OFF) REFRESH MATERIALIZED VIEW revenue;

SELECT * FROM pgtrickle.explain_refresh_mode('shop.revenue');

SELECT source_table, cdc_mode, columns_used FROM pgtrickle.list_sources('shop.revenue') ORDER BY 1;
\set ECHO none
