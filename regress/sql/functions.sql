-- The function API: each function does what the statement of the same meaning does.
SELECT pgtrickle.version();
CREATE TABLE orders (id int PRIMARY KEY, status text, amount numeric);
INSERT INTO orders SELECT g, (ARRAY['active', 'done'])[g % 2 + 1], g FROM generate_series(1, 6) g;

SELECT pgtrickle.create_stream_table(name => 'active_orders', query => 'SELECT * FROM orders WHERE status = ''active''',
    schedule => '30s');
SELECT pgtrickle.create_stream_table('lazy', 'SELECT status, count(*) FROM orders GROUP BY 1;', initialize => false,
    refresh_mode => 'Differential');
SELECT name, status, refresh_mode, is_populated, consecutive_errors, schedule, data_timestamp IS NULL AS no_data
  FROM pgtrickle.pgt_status();
SELECT relname, reloptions FROM pg_class WHERE relkind = 'm' ORDER BY 1;
INSERT INTO orders VALUES (8, 'active', 8);
SELECT pgtrickle.refresh_stream_table('active_orders');
SELECT pgtrickle.refresh_stream_table('public.lazy');
SELECT count(*) FROM active_orders;
TABLE lazy ORDER BY 1;

-- The same again: an error, nothing, or an update.
SELECT pgtrickle.create_stream_table('lazy', 'SELECT 1');
SELECT pgtrickle.create_stream_table_if_not_exists('lazy', 'SELECT 1');
SELECT pgtrickle.create_stream_table_if_not_exists('third', 'VALUES (1), (2)');
SELECT pgtrickle.create_or_replace_stream_table('lazy', 'select status, count( * ) from public.orders group by status', '1h', 'AUTO');
SELECT pgtrickle.create_or_replace_stream_table('lazy', 'SELECT status, count(*) + 1 FROM orders GROUP BY 1');
SELECT pgtrickle.create_or_replace_stream_table('fourth', 'SELECT sum(amount) FROM orders');
SELECT name, schedule, refresh_mode FROM pgtrickle.pgt_status();

-- Settings.
SELECT pgtrickle.alter_stream_table('lazy', schedule => '5m', refresh_mode => 'FULL', cdc_mode => 'trigger');
SELECT * FROM pgtrickle.explain_refresh_mode('lazy');
SELECT pgtrickle.alter_stream_table('lazy', refresh_mode => 'AUTO', status => 'suspended');
SELECT pgtrickle.refresh_stream_table('lazy');
SELECT name, status, refresh_mode, schedule FROM pgtrickle.pgt_status() WHERE name = 'public.lazy';
SELECT pgtrickle.alter_stream_table('lazy', status => 'ACTIVE', query => 'SELECT status, count(*) FROM orders GROUP BY 1');
SELECT pgtrickle.alter_stream_table('lazy', query => 'SELECT 1');
SELECT pgtrickle.alter_stream_table('lazy', status => 'ERROR');
SELECT pgtrickle.alter_stream_table('lazy', schedule => 'never');
SELECT name, status, refresh_mode, schedule FROM pgtrickle.pgt_status() WHERE name = 'public.lazy';

-- What there is to see.
INSERT INTO orders VALUES (9, 'done', 9), (10, 'done', 10);
SELECT * FROM pgtrickle.list_sources('lazy') l \gset l_
SELECT :'l_source_table', :l_source_oid = 'orders'::regclass, :'l_source_type', :'l_cdc_mode', :'l_columns_used';
SELECT stream_table, source_table, cdc_mode, pending_rows, buffer_bytes > 0 AS bytes FROM pgtrickle.change_buffer_sizes() ORDER BY 1;
SELECT pgt_name, pending_since IS NOT NULL AS pending, needs_reinit FROM pgtrickle.stream_tables_info ORDER BY 1;
SELECT total_stream_tables, error_tables, scheduler_running FROM pgtrickle.quick_health;
SELECT pgtrickle.refresh_stream_table('lazy');
SELECT action, status, rows_inserted, rows_deleted, error_message, end_time >= start_time AS ordered, duration_ms >= 0 AS timed
  FROM pgtrickle.get_refresh_history('lazy', 2);
SELECT pgt_name, total_refreshes, failed_refreshes FROM pgtrickle.pg_stat_stream_tables ORDER BY 1;
SELECT source_name, cdc_mode, trigger_level, captured_columns FROM pgtrickle.pgt_cdc_status;
SELECT source_table, regexp_replace(trigger_name, '\d+', 'N') AS name, trigger_type, present, enabled FROM pgtrickle.trigger_inventory();
SELECT pgt_name, regexp_replace(frontier, '\d+', 'N', 'g') AS frontier FROM pgtrickle.pgt_stream_tables ORDER BY 1;
SELECT defining_query FROM pgtrickle.pgt_stream_tables WHERE pgt_name = 'active_orders';

SELECT property, CASE property WHEN 'plan' THEN regexp_replace(value, '[0-9.]+', 'N', 'g')
                               WHEN 'frontier' THEN regexp_replace(value, '^\d+:\d+:[\d,]*$', 'xmin:xmax:xip') ELSE value END AS value
  FROM pgtrickle.explain_st('active_orders');
SELECT property, value FROM pgtrickle.explain_st('active_orders', true) WHERE property IN ('source', 'key', 'operator');
SELECT max(id) FROM active_orders;
SELECT pgtrickle.explain_st('no_such');

-- validate_query
CREATE TABLE customers (id int PRIMARY KEY, name text);
SELECT * FROM pgtrickle.validate_query('SELECT name, sum(amount) FROM orders o JOIN customers c ON c.name = o.status GROUP BY 1');
SELECT * FROM pgtrickle.validate_query('SELECT o.id, c.id AS c FROM orders o JOIN customers c ON c.id = o.id');
SELECT * FROM pgtrickle.validate_query('SELECT *, now(), rank() OVER (ORDER BY amount) AS r FROM orders o JOIN customers c USING (id)');
SELECT * FROM pgtrickle.validate_query('SELECT random()');
SELECT * FROM pgtrickle.validate_query('SELECT to_char(now(), amount::text) FROM orders');

-- Bad input.
SELECT pgtrickle.create_stream_table(NULL, 'SELECT 1');
SELECT pgtrickle.create_stream_table('x', NULL);
SELECT pgtrickle.create_stream_table('a.b.c.d', 'SELECT 1');
SELECT pgtrickle.create_stream_table('', 'SELECT 1');
SELECT pgtrickle.create_stream_table('no_such.x', 'SELECT 1');
SELECT pgtrickle.create_stream_table('x', 'SELECT 1; SELECT 2');
SELECT pgtrickle.create_stream_table('x', 'DELETE FROM orders');
SELECT pgtrickle.create_stream_table('x', '');
SELECT pgtrickle.create_stream_table('x', 'SELECT * FRO orders');
SELECT pgtrickle.create_stream_table('x', 'SELECT no_such FROM orders');
SELECT pgtrickle.create_stream_table('x', 'SELECT 1 INTO y');
SELECT pgtrickle.create_stream_table('x', 'SELECT $1');
SELECT pgtrickle.create_stream_table('x', 'WITH d AS (DELETE FROM orders RETURNING *) SELECT * FROM d');
SELECT pgtrickle.create_stream_table('x', 'SELECT 1', schedule => 'often');
SELECT pgtrickle.create_stream_table('x', 'SELECT 1', refresh_mode => 'IMMEDIATE');
SELECT pgtrickle.create_stream_table('x', 'SELECT 1', cdc_mode => 'wal');
SELECT pgtrickle.create_stream_table('x', 'SELECT * FROM orders TABLESAMPLE system (1)');
SELECT pgtrickle.alter_stream_table('no_such');
SELECT pgtrickle.refresh_stream_table('no_such');
SELECT pgtrickle.refresh_stream_table('orders');
SELECT pgtrickle.drop_stream_table('orders');
SELECT * FROM pgtrickle.get_refresh_history('no_such');
SELECT * FROM pgtrickle.explain_refresh_mode('no_such');
SELECT * FROM pgtrickle.list_sources('orders');

-- Dropping.
CREATE MATERIALIZED VIEW over WITH (pg_trickle.incremental) AS SELECT count(*) FROM active_orders;
INSERT INTO orders VALUES (12, 'active', 12);
SELECT pgt_name, pending_since IS NOT NULL AS pending FROM pgtrickle.stream_tables_info WHERE pgt_name IN ('active_orders', 'over') ORDER BY 1;
REFRESH MATERIALIZED VIEW over;
SELECT pgt_name, pending_since IS NOT NULL AS pending FROM pgtrickle.stream_tables_info WHERE pgt_name IN ('active_orders', 'over') ORDER BY 1;
SELECT pgtrickle.drop_stream_table('active_orders');
SELECT pgtrickle.drop_stream_table('active_orders', cascade => true);
SELECT pgtrickle.drop_stream_table(pgt_name) FROM (SELECT * FROM pgtrickle.pgt_stream_tables ORDER BY pgt_id) s;
SELECT count(*) FROM pgtrickle.pgt_status();
DROP TABLE orders, customers;
