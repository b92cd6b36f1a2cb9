-- Savepoints, two-phase commit, a transaction's own changes, and statements still under way.
CREATE SCHEMA capture_transactions;
SET search_path = capture_transactions;
\getenv srcdir PG_ABS_SRCDIR
\set helpers :srcdir '/data/refresh.sql'
\i :helpers
SET pg_trickle.refresh_strategy = delta; -- a recompute would hide what capture missed

CREATE TABLE t (id int PRIMARY KEY, a text);
INSERT INTO t SELECT g, 'a' FROM generate_series(1, 5) g;
CREATE MATERIALIZED VIEW v WITH (pg_trickle.incremental) AS SELECT id, a FROM t;

-- What is rolled back was never there.
BEGIN;
INSERT INTO t VALUES (6, 'kept');
SAVEPOINT s1;
INSERT INTO t VALUES (7, 'gone');
SAVEPOINT s2;
DELETE FROM t;
ROLLBACK TO s2;
UPDATE t SET a = 'gone';
ROLLBACK TO s1;
SAVEPOINT s3;
UPDATE t SET a = 'released' WHERE id = 1;
RELEASE s3;
COMMIT;
SELECT refresh('v');
BEGIN;
DELETE FROM t;
ROLLBACK;
SELECT refresh('v');
INSERT INTO t VALUES (1, 'duplicate');
SELECT refresh('v');
DO $$
BEGIN
    FOR i IN 10 .. 20 LOOP
        BEGIN
            INSERT INTO t VALUES (i, 'block');
            IF i % 2 = 0 THEN RAISE 'undo'; END IF;
        EXCEPTION WHEN raise_exception THEN NULL;
        END;
    END LOOP;
END $$;
SELECT refresh('v');

-- Prepared, the changes are pending until the transaction is committed, however often the view is refreshed meanwhile.
BEGIN;
INSERT INTO t VALUES (30, 'prepared');
SAVEPOINT s;
INSERT INTO t VALUES (31, 'prepared');
PREPARE TRANSACTION 'capture_transactions 1';
BEGIN;
INSERT INTO t VALUES (32, 'prepared, then gone');
PREPARE TRANSACTION 'capture_transactions 2';
INSERT INTO t VALUES (33, 'meanwhile');
SELECT refresh('v');
COMMIT PREPARED 'capture_transactions 1';
ROLLBACK PREPARED 'capture_transactions 2';
SELECT refresh('v');

-- A refresh sees what its own transaction did before it, once; undone with it.
BEGIN;
INSERT INTO t VALUES (40, 'own');
SELECT refresh('v');
UPDATE t SET a = 'own again' WHERE id = 40;
DELETE FROM t WHERE id = 30;
SELECT refresh('v');
SAVEPOINT s;
DELETE FROM t WHERE id > 30;
SELECT refresh('v');
ROLLBACK TO s;
SELECT refresh('v');
UPDATE t SET a = 'last' WHERE id = 40;
COMMIT;
SELECT refresh('v');
BEGIN;
INSERT INTO t VALUES (41, 'rolled back');
SELECT refresh('v');
ROLLBACK;
SELECT refresh('v');

-- The view, its table and its first rows made in one transaction.
BEGIN;
CREATE TABLE young (id int, a text);
INSERT INTO young VALUES (1, 'before');
CREATE MATERIALIZED VIEW young_v WITH (pg_trickle.incremental) AS SELECT id, a FROM young;
INSERT INTO young VALUES (2, 'after');
SELECT refresh('young_v');
SAVEPOINT s;
CREATE MATERIALIZED VIEW young_w WITH (pg_trickle.incremental) AS SELECT a FROM young;
INSERT INTO young VALUES (3, 'gone');
ROLLBACK TO s;
INSERT INTO young VALUES (4, 'after');
COMMIT;
SELECT refresh('young_v');

-- A refresh inside a statement that is changing the source would see rows whose change is not captured yet. It does nothing, and
-- says so once.
CREATE FUNCTION refresh_from_within() RETURNS int LANGUAGE plpgsql AS
    'BEGIN PERFORM pgtrickle.refresh_stream_table(''capture_transactions.v''); RETURN 1; END';
UPDATE t SET a = 'x' || refresh_from_within() WHERE id IN (33, 40);
WITH changed AS (UPDATE t SET a = 'x' WHERE id = 40 RETURNING *) SELECT refresh_from_within() FROM changed;
CREATE FUNCTION refresh_by_trigger() RETURNS trigger LANGUAGE plpgsql AS
    'BEGIN PERFORM pgtrickle.refresh_stream_table(''capture_transactions.v''); RETURN NULL; END';
CREATE TRIGGER a_first AFTER UPDATE ON t EXECUTE FUNCTION refresh_by_trigger();
UPDATE t SET a = 'x' WHERE id = 40;
SELECT refresh('v');
DROP TRIGGER a_first ON t;
-- Also where the table was changed by a foreign-key action of the statement.
CREATE TABLE child (id int REFERENCES t ON DELETE CASCADE, a text);
INSERT INTO child SELECT id, a FROM t;
CREATE MATERIALIZED VIEW children WITH (pg_trickle.incremental) AS SELECT id, a FROM child;
CREATE FUNCTION refresh_children() RETURNS trigger LANGUAGE plpgsql AS
    'BEGIN PERFORM pgtrickle.refresh_stream_table(''capture_transactions.children''); RETURN NULL; END';
CREATE TRIGGER zz_last AFTER DELETE ON t FOR EACH ROW EXECUTE FUNCTION refresh_children();
DELETE FROM t WHERE id = 40;
DROP TRIGGER zz_last ON t;
-- A trigger on another table may.
CREATE TABLE other (id int);
CREATE TRIGGER refresh AFTER INSERT ON other EXECUTE FUNCTION refresh_by_trigger();
DELETE FROM t WHERE id = 40;
INSERT INTO other VALUES (1);
SELECT refresh('v'), refresh('children');

-- Deferred constraints are still waiting when the refresh comes; that is no obstacle.
ALTER TABLE child ADD CONSTRAINT later FOREIGN KEY (id) REFERENCES t DEFERRABLE INITIALLY DEFERRED;
BEGIN;
INSERT INTO child VALUES (33, 'deferred');
SELECT refresh('children');
COMMIT;
SELECT refresh('children');

-- Cursors: rows are deleted behind one.
BEGIN;
DECLARE c CURSOR FOR SELECT id FROM t WHERE id < 6 FOR UPDATE;
MOVE 2 IN c;
DELETE FROM t WHERE CURRENT OF c;
CLOSE c;
COMMIT;
SELECT refresh('v'), refresh('children');

-- Where transactions see one snapshot throughout, a refresh contains what that sees.
BEGIN ISOLATION LEVEL REPEATABLE READ;
INSERT INTO t VALUES (50, 'repeatable');
SELECT refresh('v');
DELETE FROM t WHERE id = 50;
SELECT refresh('v');
COMMIT;
BEGIN ISOLATION LEVEL SERIALIZABLE;
UPDATE t SET a = 'serializable' WHERE id = 1;
SELECT refresh('v');
COMMIT;

SET client_min_messages = warning;
DROP SCHEMA capture_transactions CASCADE;
