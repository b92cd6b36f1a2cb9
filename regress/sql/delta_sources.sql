-- Sources that change between refreshes, while changes of their rows are pending.
CREATE SCHEMA delta_sources;
SET search_path = delta_sources, public;
SET pg_trickle.refresh_strategy = 'delta';

-- A column comes that no view has heard of: the entries of a delta plan must know it.
CREATE TABLE a (k int, n int);
CREATE TABLE b (k int, n int);
INSERT INTO a VALUES (1, 1), (2, 2);
INSERT INTO b VALUES (1, 10), (2, 20);
CREATE MATERIALIZED VIEW pairs WITH (pg_trickle.incremental) AS
    SELECT a.k, a.n, b.n AS other FROM a JOIN b USING (k) JOIN a AS again USING (k);
CREATE MATERIALIZED VIEW sums WITH (pg_trickle.incremental) AS
    SELECT a.k, sum(a.n + b.n) AS n FROM a JOIN b USING (k) GROUP BY a.k;
INSERT INTO a VALUES (1, 3);
INSERT INTO b VALUES (1, 30);
ALTER TABLE a ADD COLUMN extra text DEFAULT 'x';
ALTER TABLE b ADD COLUMN extra int;
INSERT INTO a VALUES (2, 4, 'y');
DELETE FROM b WHERE n = 10;
REFRESH MATERIALIZED VIEW pairs;
REFRESH MATERIALIZED VIEW sums;
TABLE pairs EXCEPT ALL SELECT a.k, a.n, b.n FROM a JOIN b USING (k) JOIN a AS again USING (k);
SELECT count(*) FROM pairs;
TABLE sums ORDER BY k;

SET client_min_messages = warning;
DROP SCHEMA delta_sources CASCADE;
