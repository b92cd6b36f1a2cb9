-- What blocks keep between refreshes is looked at before it is used: where a superuser has dropped or altered it, it is made anew, with
-- what the view holds.
CREATE SCHEMA kept_tables;
SET search_path = kept_tables;
SET pg_trickle.refresh_strategy = delta;
SET pg_trickle.rebuild_mismatched = off;
\getenv srcdir PG_ABS_SRCDIR
\set helpers :srcdir '/data/wrong.sql'
\i :helpers
CREATE TABLE o (id int PRIMARY KEY, c int, amount int);
INSERT INTO o SELECT i, i % 7, i % 5 FROM generate_series(1, 50) i;
CREATE MATERIALIZED VIEW v WITH (pg_trickle.incremental) AS
    SELECT n, count(*), sum(total) FROM (SELECT c, count(*) n, sum(amount) total FROM o GROUP BY c) s GROUP BY n;
-- The groups of the lower block, those of the upper one, and what is between them.
CREATE FUNCTION kept(block int, is_output boolean) RETURNS regclass LANGUAGE sql AS $$
    SELECT relid::regclass FROM pgtrickle_internal.state s WHERE s.view = 'v'::regclass AND s.block = $1 AND s.is_output = $2
$$;
CREATE PROCEDURE alter_kept(block int, is_output boolean, change text) LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE format(change, kept(block, is_output));
END $$;
-- Twice: the first refresh may compute the view anew, the second one may not.
CREATE FUNCTION follow() RETURNS TABLE (refresh int, action text, reason text, wrong bigint) LANGUAGE plpgsql AS $$
BEGIN
    FOREACH refresh IN ARRAY ARRAY[1, 2] LOOP
        UPDATE o SET c = c + 1 WHERE id % 10 = refresh;
        REFRESH MATERIALIZED VIEW v;
        SELECT h.action, h.reason INTO action, reason FROM pgtrickle.pgt_refresh_history h ORDER BY h.refresh_id DESC LIMIT 1;
        wrong := wrong('v');
        RETURN NEXT;
    END LOOP;
END $$;
SELECT * FROM follow();
-- Columns that do not belong there, and of another type.
CALL alter_kept(1, false, 'ALTER TABLE %s ADD COLUMN more int');
SELECT * FROM follow();
CALL alter_kept(0, true, 'ALTER TABLE %s ADD COLUMN more int');
SELECT * FROM follow();
CALL alter_kept(0, false, 'ALTER TABLE %s ALTER rows TYPE numeric');
SELECT * FROM follow();
CALL alter_kept(0, true, 'ALTER TABLE %s ALTER c1 TYPE text');
SELECT * FROM follow();
CALL alter_kept(0, true, 'ALTER TABLE %s DROP COLUMN c1');
SELECT * FROM follow();
-- A crash would empty them.
CALL alter_kept(0, true, 'ALTER TABLE %s SET UNLOGGED');
SELECT * FROM follow();
-- Missing altogether.
CALL alter_kept(0, true, 'ALTER EXTENSION pg_trickle DROP TABLE %1$s; DROP TABLE %1$s');
SELECT * FROM follow();
CALL alter_kept(1, false, 'ALTER EXTENSION pg_trickle DROP TABLE %1$s; DROP TABLE %1$s');
SELECT * FROM follow();
-- What leaves them as they are.
CALL alter_kept(0, false, 'CREATE INDEX ON %s (rows)');
CALL alter_kept(0, false, 'CREATE UNIQUE INDEX ON %s (k1) WHERE rows > 1000');
CALL alter_kept(0, false, 'REINDEX TABLE %s');
CALL alter_kept(0, true, 'REINDEX TABLE %s');
SELECT * FROM follow();
-- A view goes without them.
CALL alter_kept(0, false, 'ALTER EXTENSION pg_trickle DROP TABLE %1$s; DROP TABLE %1$s');
DROP MATERIALIZED VIEW v;
SELECT count(*) FROM pgtrickle_internal.state;
DROP SCHEMA kept_tables CASCADE;
