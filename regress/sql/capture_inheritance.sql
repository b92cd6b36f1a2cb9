-- Inheritance: children with more columns, several parents, parents that come and go.
CREATE SCHEMA capture_inheritance;
SET search_path = capture_inheritance;
\getenv srcdir PG_ABS_SRCDIR
\set helpers :srcdir '/data/refresh.sql'
\i :helpers
SET pg_trickle.refresh_strategy = delta; -- a recompute would hide what capture missed

CREATE TABLE animal (id int, name text);
CREATE TABLE bird (wings int) INHERITS (animal);
CREATE TABLE parrot (words text[], name text, id int);
ALTER TABLE parrot ADD COLUMN wings int;
INSERT INTO animal VALUES (1, 'animal');
INSERT INTO bird VALUES (2, 'bird', 2);
INSERT INTO parrot VALUES (ARRAY['hello'], 'parrot', 3);
CREATE MATERIALIZED VIEW animals WITH (pg_trickle.incremental) AS SELECT id, name FROM animal;
ALTER TABLE parrot INHERIT bird;
SELECT refresh('animals');

INSERT INTO animal VALUES (4, 'animal');
INSERT INTO bird VALUES (5, 'bird', 2);
INSERT INTO parrot VALUES (NULL, 'parrot', 6);
SELECT refresh('animals');
UPDATE animal SET name = name || '!' WHERE id < 4;
UPDATE bird SET wings = 4;
UPDATE parrot SET name = name || '?';
SELECT refresh('animals');
DELETE FROM ONLY animal WHERE id = 1;
DELETE FROM bird WHERE id = 3;
SELECT refresh('animals');

-- A child of two parents that are both captured, and its grandchild.
CREATE TABLE property (worth int, name text);
INSERT INTO property VALUES (10, 'house');
CREATE TABLE pet (tag int) INHERITS (animal, property);
CREATE MATERIALIZED VIEW properties WITH (pg_trickle.incremental) AS SELECT worth, name FROM property;
CREATE TABLE hamster () INHERITS (pet);
INSERT INTO hamster (id, name, worth) VALUES (7, 'hamster', 1);
INSERT INTO pet (id, name, worth) VALUES (8, 'pet', 2);
SELECT refresh('animals'), refresh('properties');
UPDATE animal SET name = name || '~';
SELECT refresh('animals'), refresh('properties');
UPDATE property SET name = name || '+', worth = worth + 1;
SELECT refresh('animals'), refresh('properties');
DELETE FROM animal WHERE id = 7;
DELETE FROM pet;
INSERT INTO pet (id, name, worth) VALUES (9, 'pet', 3);
SELECT refresh('animals'), refresh('properties');
TRUNCATE ONLY pet;
SELECT refresh('animals'), refresh('properties');

-- A captured table gets a parent, through which it is then changed, and loses it again.
CREATE TABLE thing (worth int);
ALTER TABLE property INHERIT thing;
UPDATE thing SET worth = worth * 2;
SELECT refresh('properties');
ALTER TABLE property NO INHERIT thing;
UPDATE thing SET worth = 0;
UPDATE property SET worth = worth + 1;
SELECT refresh('properties');
ALTER TABLE hamster NO INHERIT pet;
INSERT INTO hamster (id, name, worth) VALUES (10, 'free', 1);
SELECT refresh('animals'), refresh('properties');
INSERT INTO hamster (id, name, worth) VALUES (11, 'free', 1);
SELECT refresh('animals'), refresh('properties');
DROP TABLE pet;
SELECT refresh('animals'), refresh('properties');

SET client_min_messages = warning;
DROP SCHEMA capture_inheritance CASCADE;
