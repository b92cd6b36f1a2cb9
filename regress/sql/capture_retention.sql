-- Rows that come and go with whole partitions, children and tables are changes like others, where they are few enough.
CREATE SCHEMA capture_retention;
SET search_path = capture_retention;
\getenv srcdir PG_ABS_SRCDIR
\set helpers :srcdir '/data/refresh.sql'
\i :helpers
SET pg_trickle.refresh_strategy = delta; -- a recompute would hide what capture missed
-- Why the last refresh of a view was what it was.
CREATE FUNCTION reason(view regclass) RETURNS text LANGUAGE sql AS $$
    SELECT reason FROM pgtrickle.pgt_refresh_history WHERE pgt_relid = view ORDER BY refresh_id DESC LIMIT 1 $$;

-- Leaves in another order of columns, with dropped columns, generated columns, toasted values, and a branch.
CREATE TABLE event (day int NOT NULL, kind int NOT NULL, body text, n int, twice int GENERATED ALWAYS AS (n * 2) STORED,
    PRIMARY KEY (day, kind)) PARTITION BY RANGE (day);
CREATE TABLE event_0 PARTITION OF event FOR VALUES FROM (0) TO (10);
CREATE TABLE event_1 (gone text, n int, kind int NOT NULL, twice int GENERATED ALWAYS AS (n * 2) STORED, body text, lost int,
    day int NOT NULL);
ALTER TABLE event_1 DROP COLUMN gone, DROP COLUMN lost;
ALTER TABLE event ATTACH PARTITION event_1 FOR VALUES FROM (10) TO (20);
CREATE TABLE event_2 PARTITION OF event FOR VALUES FROM (20) TO (30) PARTITION BY LIST (kind);
CREATE TABLE event_2a PARTITION OF event_2 FOR VALUES IN (1, 2);
CREATE TABLE event_2b PARTITION OF event_2 DEFAULT;
CREATE TABLE event_3 PARTITION OF event FOR VALUES FROM (30) TO (40);
ALTER TABLE event_0 ALTER COLUMN body SET STORAGE EXTERNAL;
ALTER TABLE event_1 ALTER COLUMN body SET STORAGE EXTERNAL;
CREATE TABLE kinds (kind int PRIMARY KEY, name text);
INSERT INTO kinds SELECT k, 'kind ' || k FROM generate_series(1, 4) k;
INSERT INTO event (day, kind, body, n)
    SELECT d, k, repeat(d || ' ' || k, CASE WHEN k = 4 THEN 2000 ELSE 1 END), d * k FROM generate_series(0, 39) d, generate_series(1, 4) k;
CREATE MATERIALIZED VIEW keyed WITH (pg_trickle.incremental) AS SELECT day, kind, body, twice FROM event;
CREATE MATERIALIZED VIEW bag WITH (pg_trickle.incremental) AS SELECT kind, n % 3 AS m FROM event;
CREATE MATERIALIZED VIEW grouped WITH (pg_trickle.incremental) AS
    SELECT kind, count(*), sum(n), min(day), max(day), max(body) AS last FROM event GROUP BY kind;
CREATE MATERIALIZED VIEW joined WITH (pg_trickle.incremental) AS SELECT e.day, e.kind, k.name FROM event e JOIN kinds k USING (kind);
CREATE MATERIALIZED VIEW above WITH (pg_trickle.incremental) AS SELECT count, count(*) AS kinds FROM grouped GROUP BY count;
CREATE VIEW refreshed AS SELECT refresh('keyed') AS keyed, refresh('bag') AS bag, refresh('joined') AS joined,
    refresh('above') AS above, refresh('grouped') AS grouped;

-- DETACH, with changes of the partition pending, and ATTACH.
UPDATE event SET n = n + 1 WHERE day IN (5, 15);
INSERT INTO event (day, kind, n) VALUES (15, 9, 1);
DELETE FROM event_0 WHERE day = 3;
ALTER TABLE event DETACH PARTITION event_0;
SELECT * FROM refreshed;
SELECT reason('keyed'), reason('above');
ALTER TABLE event DETACH PARTITION event_1;
SELECT * FROM refreshed;
INSERT INTO event_1 (day, kind, n) VALUES (16, 8, 1);
DELETE FROM event_1 WHERE day < 13;
SELECT * FROM refreshed;
ALTER TABLE event ATTACH PARTITION event_1 FOR VALUES FROM (10) TO (20);
ALTER TABLE event ATTACH PARTITION event_0 FOR VALUES FROM (0) TO (10);
SELECT * FROM pgtrickle.explain_st('keyed') WHERE property IN ('recompute_due', 'moved_by_ddl');
SELECT needs_reinit FROM pgtrickle.pgt_stream_tables WHERE pgt_schema = 'capture_retention' AND pgt_name = 'keyed';
SELECT * FROM refreshed;
SELECT reason('keyed');
-- It is captured from then on, and nothing is counted twice.
UPDATE event SET n = n + 1 WHERE day IN (5, 15);
SELECT * FROM refreshed;

-- All of it in one transaction, part of which is taken back; a refresh in between.
BEGIN;
INSERT INTO event (day, kind, n) VALUES (1, 7, 7);
SELECT refresh('keyed');
UPDATE event_0 SET n = 0 WHERE kind = 1;
SAVEPOINT a;
ALTER TABLE event DETACH PARTITION event_0;
SELECT refresh('keyed');
ROLLBACK TO a;
SELECT refresh('keyed');
DELETE FROM event WHERE day = 4;
ALTER TABLE event DETACH PARTITION event_0;
UPDATE event_0 SET n = 99;
ALTER TABLE event ATTACH PARTITION event_0 FOR VALUES FROM (0) TO (10);
SAVEPOINT b;
DROP TABLE event_0;
ROLLBACK TO b;
DELETE FROM event WHERE day = 5;
COMMIT;
SELECT * FROM refreshed;
BEGIN;
TRUNCATE event_0;
ROLLBACK;
SELECT * FROM refreshed;

-- A branch with its leaves, DROP of a leaf, of a branch, of several tables at once.
ALTER TABLE event DETACH PARTITION event_2;
SELECT * FROM refreshed;
ALTER TABLE event ATTACH PARTITION event_2 FOR VALUES FROM (20) TO (30);
SELECT * FROM refreshed;
INSERT INTO event_2 (day, kind, n) VALUES (22, 6, 6);
DROP TABLE event_2a;
SELECT * FROM refreshed;
SELECT reason('keyed');
INSERT INTO event_1 (day, kind, n) VALUES (12, 6, 6);
DROP TABLE event_2, event_1;
SELECT * FROM refreshed;
DROP TABLE event_3 CASCADE;
SELECT * FROM refreshed;

-- TRUNCATE of a partition, of the whole table, twice, and with CASCADE.
TRUNCATE event_0;
SELECT * FROM refreshed;
SELECT reason('keyed');
INSERT INTO event (day, kind, n) SELECT g, 1, 1 FROM generate_series(0, 5) g;
SELECT * FROM refreshed;
BEGIN;
INSERT INTO event (day, kind, n) VALUES (6, 1, 1);
TRUNCATE event;
INSERT INTO event (day, kind, n) VALUES (6, 1, 1), (7, 2, 2);
TRUNCATE event RESTART IDENTITY;
INSERT INTO event (day, kind, n) VALUES (8, 2, 2);
COMMIT;
SELECT * FROM refreshed;
ALTER TABLE event ADD FOREIGN KEY (kind) REFERENCES kinds;
TRUNCATE kinds CASCADE;
SELECT * FROM refreshed;
SELECT reason('joined');
-- The user's own trigger changes what was read already.
INSERT INTO kinds SELECT k, 'kind ' || k FROM generate_series(1, 4) k;
INSERT INTO event (day, kind, n) VALUES (8, 2, 2), (9, 2, 2);
SELECT * FROM refreshed;
CREATE FUNCTION meddle() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO event (day, kind, n) VALUES (1, 1, 1);
    RETURN NULL;
END $$;
CREATE TRIGGER z_meddle BEFORE TRUNCATE ON event_0 FOR EACH STATEMENT EXECUTE FUNCTION meddle();
TRUNCATE event;
SELECT * FROM refreshed;
SELECT reason('keyed');
DROP TRIGGER z_meddle ON event_0;

-- A source that is a leaf as well as part of the root: the leaf's own view breaks as it always did.
CREATE MATERIALIZED VIEW leaf WITH (pg_trickle.incremental) AS SELECT day, n FROM event_0;
INSERT INTO event (day, kind, n) VALUES (1, 1, 1), (2, 1, 1);
SELECT refresh('leaf'), refresh('keyed');
ALTER TABLE event DETACH PARTITION event_0;
SELECT refresh('leaf'), refresh('keyed');
INSERT INTO event_0 (day, kind, n) VALUES (3, 1, 1);
SELECT refresh('leaf'), refresh('keyed');
ALTER TABLE event ATTACH PARTITION event_0 FOR VALUES FROM (0) TO (10);
SELECT refresh('leaf'), refresh('keyed');
TRUNCATE event;
SELECT refresh('leaf'), refresh('keyed');
DROP TABLE event_0;
DROP TABLE event_0 CASCADE;
SELECT refresh('keyed');

-- Plain inheritance: NO INHERIT, INHERIT, DROP; a child of two parents.
CREATE TABLE base (a int, b text);
CREATE TABLE child (c int) INHERITS (base);
CREATE TABLE grandchild (d int) INHERITS (child);
CREATE TABLE other (a int);
INSERT INTO base SELECT g, 'base' FROM generate_series(1, 5) g;
INSERT INTO child SELECT g, 'child', 1 FROM generate_series(1, 4) g;
INSERT INTO grandchild SELECT g, 'grandchild', 1, 1 FROM generate_series(1, 3) g;
CREATE MATERIALIZED VIEW everyone WITH (pg_trickle.incremental) AS SELECT a, b FROM base;
UPDATE base SET a = a + 1;
ALTER TABLE child NO INHERIT base;
SELECT refresh('everyone');
DELETE FROM child WHERE a = 2;
ALTER TABLE child INHERIT base;
SELECT refresh('everyone');
UPDATE base SET b = b || '!';
SELECT refresh('everyone');
ALTER TABLE grandchild INHERIT base; -- now in two ways
ALTER TABLE grandchild NO INHERIT child;
SELECT refresh('everyone');
ALTER TABLE grandchild NO INHERIT base;
SELECT refresh('everyone');
ALTER TABLE grandchild INHERIT base, ALTER COLUMN d TYPE bigint;
SELECT refresh('everyone');
ALTER TABLE grandchild ALTER COLUMN d TYPE text, NO INHERIT base; -- its rows are not in the new format yet
SELECT refresh('everyone');
SELECT reason('everyone');
ALTER TABLE grandchild INHERIT child;
SELECT refresh('everyone');
TRUNCATE child;
SELECT refresh('everyone');
INSERT INTO grandchild VALUES (1, 'again', 1, 1);
INSERT INTO base VALUES (1, 'base');
TRUNCATE ONLY base;
SELECT refresh('everyone');
DROP TABLE child CASCADE;
SELECT refresh('everyone');

-- Reached by something else than its name: recomputed.
CREATE SCHEMA capture_retention_2;
CREATE TABLE capture_retention_2.child () INHERITS (base);
INSERT INTO capture_retention_2.child VALUES (1, 'away');
SELECT refresh('everyone');
SET client_min_messages = warning;
DROP SCHEMA capture_retention_2 CASCADE;
RESET client_min_messages;
SELECT refresh('everyone');
SELECT reason('everyone');

-- Too much of the table: recomputed. Little of it: not.
CREATE TABLE big (k int, v int) PARTITION BY LIST (k);
CREATE TABLE big_1 PARTITION OF big FOR VALUES IN (1);
CREATE TABLE big_2 PARTITION OF big FOR VALUES IN (2);
CREATE TABLE big_3 PARTITION OF big FOR VALUES IN (3);
INSERT INTO big SELECT 1, g FROM generate_series(1, 40000) g;
INSERT INTO big SELECT 2, g FROM generate_series(1, 200000) g;
INSERT INTO big SELECT 3, g FROM generate_series(1, 60000) g;
CREATE MATERIALIZED VIEW big_sums WITH (pg_trickle.incremental) AS SELECT k, count(*), sum(v) FROM big GROUP BY k;
ALTER TABLE big DETACH PARTITION big_1;
SELECT refresh('big_sums');
SELECT reason('big_sums');
ALTER TABLE big ATTACH PARTITION big_1 FOR VALUES IN (1);
SELECT refresh('big_sums');
ALTER TABLE big DETACH PARTITION big_3;
SELECT refresh('big_sums');
SELECT reason('big_sums');
TRUNCATE big;
SELECT refresh('big_sums');
DROP TABLE big_1, big_2, big_3 CASCADE;

-- Wide values count on both sides: 1.6 MB of them leave and come, beside ten times as much. Most of it is outside the rows.
CREATE TABLE letter (k int, body text) PARTITION BY LIST (k);
ALTER TABLE letter ALTER body SET STORAGE EXTERNAL;
CREATE TABLE letter_1 PARTITION OF letter FOR VALUES IN (1);
CREATE TABLE letter_2 PARTITION OF letter FOR VALUES IN (2);
INSERT INTO letter SELECT 1, repeat(g::text, 10000) FROM generate_series(10, 89) g;
INSERT INTO letter SELECT 2, repeat(g::text, 10000) FROM generate_series(10, 89) g, generate_series(1, 10);
CREATE MATERIALIZED VIEW letters WITH (pg_trickle.incremental) AS SELECT k, count(*), sum(length(body)) FROM letter GROUP BY k;
ALTER TABLE letter DETACH PARTITION letter_1;
SELECT refresh('letters');
ALTER TABLE letter ATTACH PARTITION letter_1 FOR VALUES IN (1);
SELECT refresh('letters');
TRUNCATE letter_1;
SELECT refresh('letters');
INSERT INTO letter SELECT 1, repeat(g::text, 10000) FROM generate_series(10, 89) g;
SELECT refresh('letters');
DROP TABLE letter_1;
SELECT refresh('letters');
-- A view that does not read them is not concerned with them.
CREATE TABLE letter_3 PARTITION OF letter FOR VALUES IN (3);
INSERT INTO letter SELECT 3, repeat(g::text, 10000) FROM generate_series(10, 89) g;
DROP MATERIALIZED VIEW letters;
CREATE MATERIALIZED VIEW letters WITH (pg_trickle.incremental) AS SELECT k, count(*) FROM letter GROUP BY k;
DROP TABLE letter_3;
SELECT refresh('letters');
DROP TABLE letter CASCADE;

-- An event trigger that changes the table before it leaves, or after.
CREATE FUNCTION meddle_ddl() RETURNS event_trigger LANGUAGE plpgsql AS $$
BEGIN
    IF tg_tag = 'ALTER TABLE' AND current_query() LIKE '%/* meddle */%' THEN
        INSERT INTO capture_retention.big_3 VALUES (3, 3);
    END IF;
END $$;
CREATE TABLE big_3 PARTITION OF big FOR VALUES IN (3);
INSERT INTO big VALUES (3, 1);
SELECT refresh('big_sums');
CREATE EVENT TRIGGER capture_retention_start ON ddl_command_start EXECUTE FUNCTION meddle_ddl();
CREATE EVENT TRIGGER capture_retention_end ON ddl_command_end EXECUTE FUNCTION meddle_ddl();
ALTER TABLE big /* meddle */ DETACH PARTITION big_3;
SELECT refresh('big_sums');
SELECT count(*) FROM big_3;
ALTER TABLE big /* meddle */ ATTACH PARTITION big_3 FOR VALUES IN (3);
SELECT refresh('big_sums');
DROP EVENT TRIGGER capture_retention_start;
DROP EVENT TRIGGER capture_retention_end;
SELECT * FROM big_sums;

SET client_min_messages = warning;
DROP SCHEMA capture_retention CASCADE;
