-- Stream tables that would read themselves: refused where we see it coming, an error with its path where we do not.
CREATE SCHEMA cycles;
SET search_path = cycles;
CREATE TABLE base (a int);
INSERT INTO base VALUES (1);
CREATE VIEW w AS SELECT a FROM base;
CREATE MATERIALIZED VIEW below WITH (pg_trickle.incremental) AS SELECT a FROM w;
CREATE MATERIALIZED VIEW middle WITH (pg_trickle.incremental) AS SELECT a FROM below;
CREATE MATERIALIZED VIEW above WITH (pg_trickle.incremental) AS SELECT a FROM middle WHERE a > 0;
CREATE MATERIALIZED VIEW reader WITH (pg_trickle.incremental) AS SELECT count(*) FROM above;
CREATE OR REPLACE VIEW w AS SELECT a FROM above;
CREATE OR REPLACE VIEW w AS SELECT a FROM below;
-- Nobody tells us of a rule.
CREATE OR REPLACE RULE "_RETURN" AS ON SELECT TO w DO INSTEAD SELECT a FROM above;
REFRESH MATERIALIZED VIEW below;
\echo :SQLSTATE
REFRESH MATERIALIZED VIEW middle;
REFRESH MATERIALIZED VIEW reader;
EXPLAIN (ANALYZE, COSTS OFF, TIMING OFF, SUMMARY OFF, BUFFERS OFF) REFRESH MATERIALIZED VIEW above;
CREATE MATERIALIZED VIEW late WITH (pg_trickle.incremental) AS SELECT a FROM above;
SELECT tree_line FROM pgtrickle.dependency_tree() WHERE tree_line ~ 'cycles';
-- The way out.
CREATE OR REPLACE VIEW w AS SELECT a FROM base;
INSERT INTO base VALUES (2);
REFRESH MATERIALIZED VIEW reader;
TABLE reader;
-- A view that is adopted may close one as well.
CREATE VIEW x AS SELECT a FROM base;
CREATE MATERIALIZED VIEW plain AS SELECT a FROM x;
CREATE MATERIALIZED VIEW over_plain WITH (pg_trickle.incremental) AS SELECT a FROM plain;
CREATE OR REPLACE VIEW x AS SELECT a FROM over_plain;
ALTER MATERIALIZED VIEW plain SET (pg_trickle.incremental = true);
SET client_min_messages = warning;
DROP SCHEMA cycles CASCADE;
