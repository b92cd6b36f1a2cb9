-- Changes of three tables a, b and c of (k, v), with a refresh after each (by_delta.sql).
-- All at once, with NULLs and duplicates: rows come, go, and change sides.
INSERT INTO a VALUES (3, 4), (3, 4), (50, 1), (NULL, 2), (NULL, NULL);
INSERT INTO b VALUES (3, 4), (3, 4), (3, 4), (50, 2), (NULL, 3), (6, NULL);
DELETE FROM a WHERE k = 7;
DELETE FROM b WHERE k = 5;
UPDATE c SET v = coalesce(v, 0) + 1 WHERE k < 3;
SELECT * FROM refresh_all();
-- A row that is replaced by another one like it is no change.
DELETE FROM b WHERE k = 50;
INSERT INTO b VALUES (50, 2);
UPDATE c SET v = v;
SELECT * FROM refresh_all();
-- Some copies of a row go, others stay; then the last one; then the first one comes back.
DELETE FROM b WHERE ctid = (SELECT min(ctid) FROM b WHERE k = 3);
SELECT * FROM refresh_all();
DELETE FROM b WHERE k = 3;
SELECT * FROM refresh_all();
INSERT INTO b VALUES (3, 1);
UPDATE a SET k = k + 1, v = v - 1 WHERE k < 6;
UPDATE c SET k = v, v = k;
SELECT * FROM refresh_all();
-- One side is emptied, and filled while the others move.
DELETE FROM b;
SELECT * FROM refresh_all();
INSERT INTO b SELECT i % 9, nullif(i % 4, 1) FROM generate_series(1, 30) i;
UPDATE a SET v = k, k = v WHERE k IS NOT NULL;
DELETE FROM c WHERE k IS NULL OR k > 2;
SELECT * FROM refresh_all();
DELETE FROM c;
DELETE FROM a WHERE v > 3;
SELECT * FROM refresh_all();
INSERT INTO c VALUES (1, NULL), (NULL, 1), (2, 2), (2, 2);
DELETE FROM b WHERE v IS NULL;
SELECT * FROM refresh_all();
DELETE FROM a;
SELECT * FROM refresh_all();
