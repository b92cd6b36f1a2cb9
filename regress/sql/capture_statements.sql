-- Every kind of statement that changes a table is captured, whoever runs it and by whatever route.
CREATE SCHEMA capture_statements;
SET search_path = capture_statements;
\getenv srcdir PG_ABS_SRCDIR
\set helpers :srcdir '/data/refresh.sql'
\i :helpers
SET pg_trickle.refresh_strategy = delta; -- a recompute would hide what capture missed

CREATE TABLE item (id int PRIMARY KEY, kind text, price numeric, unread text);
INSERT INTO item SELECT g, 'k' || g % 3, g, 'u' FROM generate_series(1, 10) g;
CREATE MATERIALIZED VIEW shelf WITH (pg_trickle.incremental) AS SELECT id, kind, price FROM item WHERE price < 1000;

-- INSERT, UPDATE, DELETE; one row, several, none.
INSERT INTO item VALUES (11, 'k1', 11, 'u'), (12, 'k2', 12, 'u');
SELECT refresh('shelf');
UPDATE item SET price = price + 1 WHERE id = 1;
SELECT refresh('shelf');
DELETE FROM item WHERE id <= 2;
SELECT refresh('shelf');
INSERT INTO item SELECT * FROM item WHERE false;
UPDATE item SET price = 0 WHERE false;
DELETE FROM item WHERE false;
SELECT refresh('shelf');

-- An update that changes no captured column says nothing.
UPDATE item SET unread = 'v', price = price;
SELECT refresh('shelf');
UPDATE item SET unread = 'w', price = CASE WHEN id = 5 THEN 55 ELSE price END;
SELECT refresh('shelf');

-- A key that moves, and two rows that change places.
UPDATE item SET id = -id WHERE id = 3;
BEGIN;
UPDATE item SET id = 0 WHERE id = 4;
UPDATE item SET id = 4 WHERE id = 5;
UPDATE item SET id = 5 WHERE id = 0;
COMMIT;
SELECT refresh('shelf');

-- ON CONFLICT, both ways in one statement.
INSERT INTO item VALUES (6, 'conflict', 66, 'u'), (20, 'no conflict', 20, 'u')
    ON CONFLICT (id) DO UPDATE SET kind = excluded.kind;
INSERT INTO item VALUES (6, 'nothing', 66, 'u'), (21, 'k', 21, 'u') ON CONFLICT DO NOTHING;
SELECT refresh('shelf');

-- MERGE with all its actions.
MERGE INTO item USING generate_series(5, 30) AS g ON id = g
    WHEN MATCHED AND id = 6 THEN DELETE
    WHEN MATCHED AND id < 10 THEN DO NOTHING
    WHEN MATCHED THEN UPDATE SET price = price * 2
    WHEN NOT MATCHED AND g < 25 THEN INSERT VALUES (g, 'merged', g, 'u');
SELECT refresh('shelf');
MERGE INTO item USING (VALUES (100)) AS s (x) ON id = x
    WHEN NOT MATCHED THEN INSERT VALUES (x, 'merged', x, 'u')
    WHEN NOT MATCHED BY SOURCE AND id > 20 THEN DELETE;
SELECT refresh('shelf');

-- COPY.
COPY item FROM stdin;
40	copied	40	u
41	copied	41	u
42	copied	4200	u
\.
SELECT refresh('shelf');

-- Several statements in one; a function called from one.
WITH gone AS (DELETE FROM item WHERE id = 40 RETURNING *), changed AS (UPDATE item SET kind = 'cte' WHERE id = 41)
    INSERT INTO item SELECT id + 10, kind, price, unread FROM gone;
CREATE FUNCTION buy(int) RETURNS int LANGUAGE sql AS 'INSERT INTO item VALUES ($1, ''bought'', $1) RETURNING id';
SELECT buy(60), buy(61);
SELECT refresh('shelf');

-- User triggers that change or suppress rows, or write to the table themselves.
CREATE FUNCTION meddle() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NEW.id = 71 THEN RETURN NULL; END IF;
    NEW.kind := 'meddled';
    RETURN NEW;
END $$;
CREATE TRIGGER meddle BEFORE INSERT OR UPDATE ON item FOR EACH ROW EXECUTE FUNCTION meddle();
CREATE FUNCTION echo() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO item SELECT id + 100, kind, price FROM item WHERE id BETWEEN 70 AND 79 ON CONFLICT DO NOTHING;
    RETURN NULL;
END $$;
CREATE TRIGGER a_echo AFTER INSERT ON item FOR EACH STATEMENT WHEN (pg_trigger_depth() = 0) EXECUTE FUNCTION echo();
INSERT INTO item VALUES (70, 'x', 70), (71, 'x', 71), (72, 'x', 72);
UPDATE item SET kind = 'y' WHERE id IN (1, 7, 8);
SELECT refresh('shelf');
DROP TRIGGER meddle ON item;
DROP TRIGGER a_echo ON item;

-- Through views: automatically updatable ones, INSTEAD OF triggers, rules.
CREATE VIEW cheap AS SELECT id, kind, price FROM item WHERE price < 50 WITH CHECK OPTION;
INSERT INTO cheap VALUES (30, 'view', 30);
UPDATE cheap SET price = 31 WHERE id = 30;
DELETE FROM cheap WHERE id = 7;
SELECT refresh('shelf');
CREATE VIEW by_trigger AS SELECT id FROM item;
CREATE FUNCTION instead() RETURNS trigger LANGUAGE plpgsql AS
    'BEGIN INSERT INTO item VALUES (NEW.id, ''instead'', 1); RETURN NEW; END';
CREATE TRIGGER instead INSTEAD OF INSERT ON by_trigger FOR EACH ROW EXECUTE FUNCTION instead();
INSERT INTO by_trigger VALUES (31), (32);
CREATE VIEW by_rule AS SELECT id, kind FROM item;
CREATE RULE by_rule AS ON DELETE TO by_rule DO INSTEAD UPDATE item SET kind = 'rule' WHERE id = OLD.id;
DELETE FROM by_rule WHERE id = 31;
SELECT refresh('shelf');

-- Foreign-key actions.
CREATE TABLE maker (id int PRIMARY KEY);
INSERT INTO maker SELECT generate_series(1, 5);
CREATE TABLE part (id int, maker int DEFAULT 5 REFERENCES maker ON DELETE CASCADE ON UPDATE CASCADE,
    second int DEFAULT 5 REFERENCES maker ON DELETE SET NULL ON UPDATE SET DEFAULT);
INSERT INTO part SELECT g, g % 5 + 1, g % 4 + 1 FROM generate_series(1, 20) g;
CREATE MATERIALIZED VIEW parts WITH (pg_trickle.incremental) AS SELECT id, maker, second FROM part;
DELETE FROM maker WHERE id = 1;
SELECT refresh('parts');
UPDATE maker SET id = id + 100 WHERE id IN (2, 3);
SELECT refresh('parts');
ALTER TABLE part ADD CONSTRAINT deferred FOREIGN KEY (maker) REFERENCES maker DEFERRABLE INITIALLY DEFERRED;
BEGIN;
DELETE FROM maker WHERE id = 4;
INSERT INTO part VALUES (21, 5, 5);
COMMIT;
SELECT refresh('parts');

-- A table without a key and with duplicate rows: a bag.
CREATE TABLE word (w text, n int);
INSERT INTO word SELECT 'same', 1 FROM generate_series(1, 5);
CREATE MATERIALIZED VIEW words WITH (pg_trickle.incremental) AS SELECT w FROM word;
INSERT INTO word VALUES ('same', 1), ('same', 2), ('other', 3), (NULL, 4), (NULL, 5);
SELECT refresh('words');
DELETE FROM word WHERE ctid = (SELECT min(ctid) FROM word);
DELETE FROM word WHERE n = 4;
UPDATE word SET w = 'other' WHERE n = 2;
SELECT refresh('words');
SELECT w, count(*) FROM words GROUP BY w ORDER BY w;

-- session_replication_role = replica silences ordinary triggers, and what looks like a way to switch ours off does not.
SET session_replication_role = replica;
INSERT INTO word VALUES ('replica', 6);
RESET session_replication_role;
SELECT refresh('words');
ALTER TABLE word DISABLE TRIGGER ALL;
INSERT INTO word VALUES ('disabled', 7);
SELECT refresh('words');
ALTER TABLE word ENABLE TRIGGER ALL;
SET session_replication_role = replica;
INSERT INTO word VALUES ('enabled', 8);
RESET session_replication_role;
SELECT refresh('words');
-- Nor to be dropped.
SELECT tgname FROM pg_trigger WHERE tgrelid = 'word'::regclass AND tgname LIKE 'pg_trickle_insert%' \gset
DROP TRIGGER :"tgname" ON word;
INSERT INTO word VALUES ('dropped', 9);
SELECT refresh('words');

-- TRUNCATE has no rows to capture: they are read before it.
TRUNCATE word;
INSERT INTO word VALUES ('after', 9);
SELECT refresh('words');
DELETE FROM word;
SELECT refresh('words');
BEGIN;
TRUNCATE maker CASCADE;
ROLLBACK;
SELECT refresh('parts');
TRUNCATE maker CASCADE;
SELECT refresh('parts');

-- A writer needs no right on anything of ours, and gets none.
CREATE ROLE capture_statements_writer;
GRANT USAGE ON SCHEMA capture_statements TO capture_statements_writer;
GRANT INSERT, DELETE, SELECT, TRUNCATE ON item TO capture_statements_writer;
SET ROLE capture_statements_writer;
INSERT INTO item VALUES (200, 'writer', 200);
SELECT count(*) FROM pgtrickle_internal.source;
SELECT pgtrickle_internal.capture();
RESET ROLE;
SELECT refresh('shelf');

-- Neither psql nor the statements it uses show the triggers.
\d word
SELECT count(*) FROM information_schema.triggers WHERE trigger_schema = 'capture_statements' AND trigger_name LIKE 'pg_trickle%';

REVOKE ALL ON ALL TABLES IN SCHEMA capture_statements FROM capture_statements_writer;
REVOKE ALL ON SCHEMA capture_statements FROM capture_statements_writer;
DROP ROLE capture_statements_writer;
SET client_min_messages = warning;
DROP SCHEMA capture_statements CASCADE;
SELECT count(*) AS sources_left FROM pgtrickle_internal.source;
