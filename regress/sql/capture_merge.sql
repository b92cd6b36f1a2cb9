-- MERGE on a partitioned table: an update that moves a row is a delete and an insert to the transition tables, and
-- neither event's statement triggers fire unless MERGE has an action of that kind.
CREATE SCHEMA capture_merge;
SET search_path = capture_merge, public;

CREATE TABLE stock (k int, part text, n int) PARTITION BY LIST (part);
CREATE TABLE stock_a PARTITION OF stock FOR VALUES IN ('a');
CREATE TABLE stock_b (n int, part text, k int);
ALTER TABLE stock ATTACH PARTITION stock_b FOR VALUES IN ('b');
CREATE TABLE stock_c PARTITION OF stock FOR VALUES IN ('c', 'd') PARTITION BY LIST (part);
CREATE TABLE stock_cc PARTITION OF stock_c FOR VALUES IN ('c');
CREATE TABLE stock_cd PARTITION OF stock_c FOR VALUES IN ('d');
INSERT INTO stock SELECT i, chr(97 + i % 4), i FROM generate_series(1, 12) i;

CREATE MATERIALIZED VIEW copy WITH (pg_trickle.incremental) AS SELECT * FROM stock;
CREATE MATERIALIZED VIEW branch WITH (pg_trickle.incremental) AS SELECT part, count(*) FROM stock_c GROUP BY part;
SET pg_trickle.refresh_strategy = 'delta';

-- What the views lack (-) and have too much of (+).
CREATE FUNCTION differences() RETURNS TABLE (difference text) BEGIN ATOMIC
    SELECT '-' || t::text FROM (SELECT * FROM stock EXCEPT ALL SELECT * FROM copy) AS t
    UNION ALL SELECT '+' || t::text FROM (SELECT * FROM copy EXCEPT ALL SELECT * FROM stock) AS t
    UNION ALL SELECT '-' || t::text FROM (SELECT part, count(*) FROM stock_c GROUP BY part EXCEPT ALL TABLE branch) AS t
    UNION ALL SELECT '+' || t::text FROM (TABLE branch EXCEPT ALL SELECT part, count(*) FROM stock_c GROUP BY part) AS t;
END;

-- Rows move and nothing else.
MERGE INTO stock USING (VALUES (1), (2), (3)) AS s (k) ON stock.k = s.k
    WHEN MATCHED THEN UPDATE SET part = 'a', n = n + 100;
REFRESH MATERIALIZED VIEW copy;
REFRESH MATERIALIZED VIEW branch;
SELECT * FROM differences();

-- Within a subpartitioned partition, in a WITH, beside inserts and deletes of the same table.
MERGE INTO stock_c USING (VALUES (6), (7)) AS s (k) ON stock_c.k = s.k
    WHEN MATCHED THEN UPDATE SET part = CASE part WHEN 'c' THEN 'd' ELSE 'c' END;
WITH moved AS (
    MERGE INTO stock USING (VALUES (4), (5)) AS s (k) ON stock.k = s.k
        WHEN MATCHED THEN UPDATE SET part = 'd' RETURNING stock.k
), added AS (INSERT INTO stock VALUES (20, 'a', 20), (21, 'c', 21) RETURNING k)
SELECT (SELECT count(*) FROM moved) AS moved, (SELECT count(*) FROM added) AS added;
WITH moved AS (
    MERGE INTO stock USING (VALUES (4), (5)) AS s (k) ON stock.k = s.k
        WHEN MATCHED THEN UPDATE SET part = 'a' WHEN NOT MATCHED THEN INSERT VALUES (s.k, 'b', 0)
), gone AS (DELETE FROM stock WHERE k = 9 RETURNING k)
SELECT k FROM gone;
MERGE INTO stock USING (VALUES (1), (10), (50)) AS s (k) ON stock.k = s.k
    WHEN MATCHED AND n > 100 THEN DELETE WHEN MATCHED THEN UPDATE SET part = 'b'
    WHEN NOT MATCHED THEN INSERT VALUES (s.k, 'd', 50);
REFRESH MATERIALIZED VIEW copy;
REFRESH MATERIALIZED VIEW branch;
SELECT * FROM differences();

-- A user's triggers fire for the actions MERGE names, and see what they did.
CREATE FUNCTION tell() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE NOTICE '% %', tg_when, tg_op; RETURN NULL; END $$;
CREATE TRIGGER tell_before BEFORE INSERT OR UPDATE OR DELETE ON stock EXECUTE FUNCTION tell();
CREATE TRIGGER tell_after AFTER INSERT OR UPDATE OR DELETE ON stock EXECUTE FUNCTION tell();
MERGE INTO stock USING (VALUES (11), (12)) AS s (k) ON stock.k = s.k
    WHEN MATCHED THEN UPDATE SET part = 'b';
WITH added AS (INSERT INTO stock VALUES (22, 'a', 22))
MERGE INTO stock USING (VALUES (11), (12)) AS s (k) ON stock.k = s.k
    WHEN MATCHED THEN UPDATE SET part = 'd';
EXPLAIN (COSTS OFF) MERGE INTO stock USING (VALUES (11)) AS s (k) ON stock.k = s.k WHEN MATCHED THEN UPDATE SET part = 'c';
REFRESH MATERIALIZED VIEW copy;
REFRESH MATERIALIZED VIEW branch;
SELECT * FROM differences();

SET client_min_messages = warning;
DROP SCHEMA capture_merge CASCADE;
