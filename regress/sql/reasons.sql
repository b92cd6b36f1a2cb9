-- Why contents are computed anew: a code and a sentence, while it is due and afterwards.
CREATE SCHEMA reasons;
SET search_path = reasons;
CREATE TABLE parts (id int, kind int NOT NULL, amount numeric, tax numeric GENERATED ALWAYS AS (amount / 2) STORED) PARTITION BY LIST (kind);
CREATE TABLE part_1 PARTITION OF parts FOR VALUES IN (1);
CREATE TABLE part_2 PARTITION OF parts FOR VALUES IN (2);
INSERT INTO parts SELECT g, g % 2 + 1, g FROM generate_series(1, 20) g;
CREATE FUNCTION twice(numeric) RETURNS numeric LANGUAGE plpgsql IMMUTABLE AS 'BEGIN RETURN $1 * 2; END';
CREATE VIEW between_them AS SELECT id, kind, twice(amount) + tax AS amount FROM parts;
CREATE MATERIALIZED VIEW sums WITH (pg_trickle.incremental) AS SELECT kind, sum(amount) FROM between_them GROUP BY kind;
CREATE MATERIALIZED VIEW top WITH (pg_trickle.incremental) AS SELECT sum(sum) FROM sums;

-- What is due, whether a recompute answers it, and what the history says of that.
CREATE FUNCTION due() RETURNS text LANGUAGE sql AS
    $$ SELECT value FROM pgtrickle.explain_st('reasons.sums') WHERE property = 'recompute_due' $$;
CREATE FUNCTION done(OUT action text, OUT reason text) LANGUAGE plpgsql AS $$
BEGIN
    REFRESH MATERIALIZED VIEW reasons.sums;
    SELECT h.action, h.reason INTO action, reason FROM pgtrickle.pgt_refresh_history h
     WHERE h.pgt_relid = 'reasons.sums'::regclass ORDER BY refresh_id DESC LIMIT 1;
END $$;

SELECT due(), done();
INSERT INTO parts VALUES (21, 1, 21);
SET pg_trickle.refresh_strategy = delta;
SELECT due(), done();
RESET pg_trickle.refresh_strategy;
TRUNCATE part_1;
SELECT due(), done();
ALTER TABLE parts DETACH PARTITION part_2;
SELECT due(), done();
ALTER TABLE parts ATTACH PARTITION part_2 FOR VALUES IN (2);
SELECT due(), done();
ALTER TABLE parts ALTER tax SET EXPRESSION AS (amount / 4);
SELECT due(), done();
CREATE OR REPLACE FUNCTION twice(numeric) RETURNS numeric LANGUAGE plpgsql IMMUTABLE AS 'BEGIN RETURN $1 * 3; END';
SELECT due(), done();
CREATE OR REPLACE VIEW between_them AS SELECT id, kind, amount + tax AS amount FROM parts;
SELECT due(), done();
INSERT INTO parts VALUES (22, 1, 22);
ALTER TABLE parts ADD CHECK (id < 1000);
SELECT due(), done();
ALTER MATERIALIZED VIEW sums SET (pg_trickle.refresh_mode = 'FULL');
ALTER MATERIALIZED VIEW sums SET (pg_trickle.refresh_mode = 'AUTO');
SELECT due(), done();
-- A marker of a release that had no codes.
INSERT INTO pgtrickle_internal.reinit VALUES ('sums'::regclass, 'TRUNCATE of a source');
SELECT due(), done();
-- Other contents than a refresh left.
SET pg_trickle.rebuild_mismatched = on;
SET pg_trickle.refresh_strategy = delta;
SELECT state.relid::regclass AS state FROM pgtrickle_internal.state WHERE view = 'sums'::regclass \gset
DELETE FROM :state;
DELETE FROM parts WHERE id = 5;
SELECT due(), done();
RESET pg_trickle.refresh_strategy;

-- One condition, one SQLSTATE.
CREATE MATERIALIZED VIEW plain AS SELECT 1 AS a;
\set VERBOSITY sqlstate
SELECT pgtrickle.refresh_stream_table('plain');
SELECT pgtrickle.get_staleness('plain');
SELECT pgtrickle.explain_st('plain');
ALTER MATERIALIZED VIEW plain SET (pg_trickle.schedule = '1m');
\set VERBOSITY default
SET client_min_messages = warning;
DROP SCHEMA reasons CASCADE;
