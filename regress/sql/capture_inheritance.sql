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

-- What holds for a parent's own rows does not for its children's: neither a CHECK nor a NOT NULL that is not inherited.
CREATE TABLE debt (id int, amount int NOT NULL NO INHERIT, CHECK (amount < 0) NO INHERIT);
CREATE TABLE credit () INHERITS (debt);
CREATE TABLE account (id int, owner text);
INSERT INTO account SELECT i, 'owner ' || i FROM generate_series(1, 5) i;
INSERT INTO debt VALUES (1, -1);
INSERT INTO credit VALUES (1, 1), (2, 2), (3, NULL);
CREATE MATERIALIZED VIEW in_credit WITH (pg_trickle.incremental) AS
    SELECT owner, debt.id, amount FROM account JOIN debt ON account.id = debt.id AND amount > 0;
CREATE MATERIALIZED VIEW rich WITH (pg_trickle.incremental) AS SELECT count(*) FROM account CROSS JOIN debt WHERE amount > 0;
CREATE MATERIALIZED VIEW unknown WITH (pg_trickle.incremental) AS
    SELECT a.id, b.id AS other FROM debt a, debt b WHERE a.id > 0 AND b.amount IS NULL;
INSERT INTO credit VALUES (3, 3), (4, NULL);
DELETE FROM credit WHERE id = 1;
UPDATE account SET owner = upper(owner);
INSERT INTO account VALUES (3, 'other');
SELECT refresh('in_credit'), refresh('rich'), refresh('unknown');
SET constraint_exclusion = on;
INSERT INTO credit VALUES (5, 5), (6, NULL);
INSERT INTO account VALUES (5, 'another');
DELETE FROM debt WHERE id = 3;
SELECT refresh('in_credit'), refresh('rich'), refresh('unknown');
RESET constraint_exclusion;

SET client_min_messages = warning;
DROP SCHEMA capture_inheritance CASCADE;
