-- A guided tour of pg_trickle. `make demo` runs it; on any database of your own:
--     psql -f docs/demo/demo.sql
-- It makes a schema `shop` and leaves it there.
\set ON_ERROR_STOP on
\pset footer off
\pset null '(null)'
\pset linestyle unicode
\set QUIET on
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS pg_trickle;
DROP SCHEMA IF EXISTS shop CASCADE;
CREATE SCHEMA shop;
SET search_path = shop;
RESET client_min_messages;

\ir 1_shop.sql
\ir 2_views.sql
\ir 3_changes.sql
\ir 4_explain.sql
\ir 5_timing.sql
\ir 6_by_itself.sql
