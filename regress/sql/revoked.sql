-- What the owner of a view may not read, or no longer, does not get into the view, nor to functions of the owner.
SET client_min_messages = warning;
CREATE ROLE regress_reader;
CREATE ROLE regress_between;
CREATE SCHEMA r;
GRANT ALL ON SCHEMA r TO regress_reader, regress_between;
CREATE TABLE r.secret (id int PRIMARY KEY, k int, v text, n int);
INSERT INTO r.secret SELECT g, g % 5, 'row ' || g, g FROM generate_series(1, 20) g;
GRANT SELECT, TRIGGER ON r.secret TO regress_reader, regress_between;

-- Sums that no view has shown yet are in a hidden relation. They are shown only to who may still read what they are made from.
SET ROLE regress_between;
CREATE VIEW r.sums AS SELECT k, sum(n) AS s FROM r.secret GROUP BY k;
GRANT SELECT ON r.sums TO regress_reader;
SET ROLE regress_reader;
CREATE TABLE r.picked (id int PRIMARY KEY, k int);
INSERT INTO r.picked VALUES (0, 0);
CREATE MATERIALIZED VIEW r.by_delta WITH (pg_trickle.incremental) AS
    SELECT p.id, t.s FROM r.picked p JOIN (SELECT k, sum(n) AS s FROM r.secret GROUP BY k) t ON t.k = p.k;
CREATE MATERIALIZED VIEW r.partly WITH (pg_trickle.incremental) AS
    SELECT id, s, rank() OVER (ORDER BY s) FROM
        (SELECT p.id, t.s FROM r.picked p JOIN (SELECT k, sum(n) AS s FROM r.secret GROUP BY k) t ON t.k = p.k) joined;
CREATE MATERIALIZED VIEW r.by_view WITH (pg_trickle.incremental) AS
    SELECT p.id, t.s FROM r.picked p JOIN r.sums t ON t.k = p.k;
SELECT name, effective_mode FROM unnest('{by_delta,partly,by_view}'::text[]) name, pgtrickle.explain_refresh_mode('r.' || name);
RESET ROLE;
REVOKE SELECT ON r.secret FROM regress_reader;
GRANT SELECT (id, k) ON r.secret TO regress_reader;
SET ROLE regress_reader;
INSERT INTO r.picked VALUES (1, 1);
REFRESH MATERIALIZED VIEW r.by_delta;
REFRESH MATERIALIZED VIEW r.partly;
EXPLAIN (ANALYZE, COSTS OFF, TIMING OFF, SUMMARY OFF, BUFFERS OFF) REFRESH MATERIALIZED VIEW r.by_delta;
REFRESH MATERIALIZED VIEW r.by_view;
-- Through a view the rights of its owner count.
RESET ROLE;
REVOKE SELECT ON r.secret FROM regress_between;
SET ROLE regress_reader;
INSERT INTO r.picked VALUES (2, 2);
REFRESH MATERIALIZED VIEW r.by_view;
RESET ROLE;
REVOKE SELECT ON r.sums FROM regress_reader;
GRANT SELECT ON r.secret TO regress_between;
REFRESH MATERIALIZED VIEW r.by_view;
TABLE r.by_delta;
TABLE r.partly;
TABLE r.by_view ORDER BY id;
GRANT SELECT ON r.secret, r.sums TO regress_reader;
REFRESH MATERIALIZED VIEW r.by_delta;
REFRESH MATERIALIZED VIEW r.partly;
REFRESH MATERIALIZED VIEW r.by_view;
SELECT count(*) FROM r.by_delta;
SELECT count(*) FROM r.partly;
SELECT count(*) FROM r.by_view;
DROP MATERIALIZED VIEW r.by_delta, r.partly, r.by_view;

-- Functions of the owner see the rows behind a security barrier only after its conditions, in every term: so also in what
-- restricts a term to the rows that a change can reach.
CREATE VIEW r.shown WITH (security_barrier) AS SELECT id, k, v, n FROM r.secret WHERE n < 1000;
GRANT SELECT ON r.shown TO regress_reader;
REVOKE SELECT ON r.secret FROM regress_reader;
SET ROLE regress_reader;
CREATE FUNCTION r.look(v text) RETURNS text IMMUTABLE COST 0.0001 LANGUAGE plpgsql AS $$
BEGIN
    IF v LIKE 'hidden%' THEN
        RAISE WARNING 'seen: %', v;
    END IF;
    RETURN v;
END $$;
CREATE FUNCTION r.looked(v text) RETURNS boolean IMMUTABLE COST 0.0001 LANGUAGE plpgsql AS 'BEGIN RETURN r.look(v) IS NOT NULL; END';
CREATE MATERIALIZED VIEW r.outer_join WITH (pg_trickle.incremental) AS
    SELECT p.id, s.v FROM r.picked p LEFT JOIN r.shown s ON s.id = p.k AND r.looked(s.v);
CREATE MATERIALIZED VIEW r.computed WITH (pg_trickle.incremental) AS
    SELECT p.id, s.v FROM r.picked p LEFT JOIN (SELECT id, r.look(v) AS v FROM r.shown) s ON s.id = p.k AND s.v <> 'none';
CREATE MATERIALIZED VIEW r.linked WITH (pg_trickle.incremental) AS
    SELECT p.id, s.v FROM r.picked p LEFT JOIN r.shown s ON r.look(s.v) = 'row ' || p.k;
CREATE MATERIALIZED VIEW r.none WITH (pg_trickle.incremental) AS
    SELECT id FROM r.picked p WHERE NOT EXISTS (SELECT FROM r.shown s WHERE s.id = p.k AND r.looked(s.v));
CREATE MATERIALIZED VIEW r.among WITH (pg_trickle.incremental) AS
    SELECT id FROM r.picked p WHERE 'row ' || k NOT IN (SELECT r.look(v) FROM r.shown);
CREATE MATERIALIZED VIEW r.most WITH (pg_trickle.incremental) AS
    SELECT id, (SELECT max(s.v) FROM r.shown s WHERE s.id = p.k AND r.looked(s.v)) FROM r.picked p;
CREATE MATERIALIZED VIEW r.beside WITH (pg_trickle.incremental) AS
    SELECT p.id, l.* FROM r.picked p, LATERAL (SELECT s.v, count(*) FROM r.shown s WHERE s.id = p.k AND r.looked(s.v) GROUP BY s.v) l;
RESET ROLE;
SELECT c.relname, effective_mode FROM pg_class c, pgtrickle.explain_refresh_mode('r.' || relname)
 WHERE relnamespace = 'r'::regnamespace AND relkind = 'm' ORDER BY 1;
CREATE PROCEDURE r.refresh_and_compare() LANGUAGE plpgsql AS $$
DECLARE view regclass; wrong bigint;
BEGIN
    FOR view IN SELECT oid FROM pg_class WHERE relnamespace = 'r'::regnamespace AND relkind = 'm' ORDER BY relname LOOP
        EXECUTE 'REFRESH MATERIALIZED VIEW ' || view;
        EXECUTE format('SELECT count(*) FROM ((TABLE %1$s EXCEPT ALL (%2$s)) UNION ALL ((%2$s) EXCEPT ALL TABLE %1$s)) d',
                       view, rtrim(pg_get_viewdef(view), ';')) INTO wrong;
        IF wrong > 0 THEN RAISE WARNING '% is wrong', view; END IF;
    END LOOP;
END $$;
SET pg_trickle.refresh_strategy = delta;
INSERT INTO r.secret SELECT g, g % 5, CASE WHEN g % 2 = 0 THEN 'row ' ELSE 'hidden ' END || g, g % 2 * 1000 FROM generate_series(21, 28) g;
INSERT INTO r.picked SELECT g, g FROM generate_series(3, 30) g;
CALL r.refresh_and_compare();
UPDATE r.secret SET v = 'hidden ' || id, n = 1000 WHERE id IN (2, 5, 22);
CALL r.refresh_and_compare();
UPDATE r.secret SET v = 'row ' || id, n = 1 WHERE id IN (5, 23);
DELETE FROM r.picked WHERE id % 4 = 0;
CALL r.refresh_and_compare();
DELETE FROM r.secret WHERE id > 24 OR id < 3;
UPDATE r.picked SET k = k + 1;
CALL r.refresh_and_compare();
RESET pg_trickle.refresh_strategy;

DROP SCHEMA r CASCADE;
DROP ROLE regress_reader, regress_between;
