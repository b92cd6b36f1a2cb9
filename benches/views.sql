-- The views that are measured, each with a plain twin for the ratio.
SET search_path = bench, public;
CREATE MATERIALIZED VIEW v_filter WITH (pg_trickle.incremental) AS
    SELECT id, customer_id, amount FROM orders WHERE status = 'active';
CREATE MATERIALIZED VIEW v_join WITH (pg_trickle.incremental) AS
    SELECT o.id, o.amount, c.name FROM orders o JOIN customers c ON c.id = o.customer_id;
CREATE MATERIALIZED VIEW v_group WITH (pg_trickle.incremental) AS
    SELECT customer_id, count(*) AS n, sum(amount) AS total FROM orders GROUP BY customer_id;
CREATE MATERIALIZED VIEW v_join_group WITH (pg_trickle.incremental) AS
    SELECT c.id, c.name, count(*) AS n, sum(o.amount) AS total
    FROM orders o JOIN customers c ON c.id = o.customer_id GROUP BY c.id, c.name;
CREATE MATERIALIZED VIEW v_chain_1 WITH (pg_trickle.incremental) AS
    SELECT customer_id, count(*) AS n, sum(amount) AS total FROM orders GROUP BY customer_id;
CREATE MATERIALIZED VIEW v_chain_2 WITH (pg_trickle.incremental) AS
    SELECT v.customer_id, c.region, v.n, v.total FROM v_chain_1 v JOIN customers c ON c.id = v.customer_id;
CREATE MATERIALIZED VIEW v_chain_3 WITH (pg_trickle.incremental) AS
    SELECT region, sum(n) AS n, sum(total) AS total FROM v_chain_2 GROUP BY region;
CREATE MATERIALIZED VIEW plain_join_group AS
    SELECT c.id, c.name, count(*) AS n, sum(o.amount) AS total
    FROM orders o JOIN customers c ON c.id = o.customer_id GROUP BY c.id, c.name;
VACUUM (ANALYZE);
