-- Promise 6: a refresh runs as the view's owner, restricted, under the settings pinned when the view was made.
CREATE ROLE regress_id_owner;
CREATE ROLE regress_id_other;
GRANT CREATE ON SCHEMA public TO regress_id_owner;
CREATE TABLE log (a int, at timestamptz, d date);
GRANT SELECT, TRIGGER ON log TO regress_id_owner;
INSERT INTO log VALUES (1, '2024-06-01 00:30+00', '2024-06-01');

-- Settings: the view keeps those it was made with, in a session with others and after its source changed.
SET TimeZone = 'Asia/Tokyo';
SET DateStyle = 'German';
CREATE MATERIALIZED VIEW days WITH (pg_trickle.incremental) AS SELECT a, at::date AS day, d::text AS text FROM log;
SELECT c.reloptions::text ~ 'pg_trickle.settings=.*TimeZone=Asia/Tokyo' AS pinned FROM pg_class c WHERE relname = 'days';
SET DateStyle = 'ISO';
TABLE days;
SET TimeZone = 'America/New_York';
INSERT INTO log VALUES (2, '2024-06-01 00:30+00', '2024-06-01');
DELETE FROM log WHERE a = 1;
REFRESH MATERIALIZED VIEW days;
TABLE days;
SHOW TimeZone;
SHOW DateStyle;
CREATE MATERIALIZED VIEW plain_days WITH (pg_trickle.incremental) AS SELECT a FROM log;
SELECT reloptions FROM pg_class WHERE relname = 'plain_days';
DROP MATERIALIZED VIEW plain_days;

-- Also where functions of the server that are marked immutable depend on them, and where a set operation converts.
CREATE MATERIALIZED VIEW pinned_bytes WITH (pg_trickle.incremental) AS SELECT sha256(a::text::bytea)::text FROM log;
CREATE MATERIALIZED VIEW pinned_zone WITH (pg_trickle.incremental) AS SELECT (timestamp '2020-01-01' + a * interval '1 day') AT TIME ZONE 'IST' AS at FROM log;
CREATE MATERIALIZED VIEW pinned_union WITH (pg_trickle.incremental) AS SELECT at FROM log UNION ALL SELECT d FROM log;
CREATE MATERIALIZED VIEW pinned_except WITH (pg_trickle.incremental) AS SELECT at FROM log EXCEPT SELECT d FROM log;
SELECT relname, reloptions::text ~ 'pg_trickle.settings=.*TimeZone=America/New_York' AS pinned FROM pg_class
 WHERE relname LIKE 'pinned%' AND relkind = 'm' ORDER BY 1;
-- They hold what a plain view made under the same settings holds, after refreshes under others.
CREATE FUNCTION differences(a text, b text) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE n bigint;
BEGIN
    EXECUTE format('SELECT count(*) FROM ((SELECT x::text FROM %1$s x EXCEPT ALL SELECT x::text FROM %2$s x)
                    UNION ALL (SELECT x::text FROM %2$s x EXCEPT ALL SELECT x::text FROM %1$s x)) d', a, b) INTO n;
    RETURN n;
END $$;
INSERT INTO log VALUES (7, '2024-03-10 02:30+00', '2024-03-10');
SET TimeZone = 'Asia/Kolkata';
SET bytea_output = escape;
SET timezone_abbreviations = 'India';
REFRESH MATERIALIZED VIEW pinned_bytes;
REFRESH MATERIALIZED VIEW pinned_zone;
REFRESH MATERIALIZED VIEW pinned_union;
REFRESH MATERIALIZED VIEW pinned_except;
RESET timezone_abbreviations;
RESET bytea_output;
SET TimeZone = 'America/New_York';
CREATE MATERIALIZED VIEW plain_bytes AS SELECT sha256(a::text::bytea)::text FROM log;
CREATE MATERIALIZED VIEW plain_zone AS SELECT (timestamp '2020-01-01' + a * interval '1 day') AT TIME ZONE 'IST' AS at FROM log;
CREATE MATERIALIZED VIEW plain_union AS SELECT at FROM log UNION ALL SELECT d FROM log;
CREATE MATERIALIZED VIEW plain_except AS SELECT at FROM log EXCEPT SELECT d FROM log;
SELECT v, differences('pinned_' || v, 'plain_' || v) FROM unnest('{bytes,zone,union,except}'::text[]) v;
DELETE FROM log WHERE a = 7;
SET client_min_messages = warning;
DROP MATERIALIZED VIEW pinned_bytes, pinned_zone, pinned_union, pinned_except, plain_bytes, plain_zone, plain_union, plain_except;
RESET client_min_messages;

-- As a dump restores it: the settings come with the option, not from the restoring session.
CREATE MATERIALIZED VIEW restored WITH ("pg_trickle.incremental" = 'true',
    "pg_trickle.settings" = 'DateStyle=German, DMY; TimeZone=Asia/Tokyo') AS SELECT a, at::date AS day, d::text AS text FROM log WITH NO DATA;
REFRESH MATERIALIZED VIEW restored;
TABLE restored;
-- They stay what the rows were computed under.
ALTER MATERIALIZED VIEW restored SET (pg_trickle.settings = 'TimeZone=UTC');
ALTER MATERIALIZED VIEW restored RESET (pg_trickle.settings);

-- Settings survive an error in the middle of a refresh.
CREATE FUNCTION inverse(a int) RETURNS numeric IMMUTABLE LANGUAGE plpgsql AS 'BEGIN RETURN 1.0 / a; END';
CREATE MATERIALIZED VIEW inverses WITH (pg_trickle.incremental) AS SELECT inverse(a) FROM log;
INSERT INTO log VALUES (0, NULL, NULL);
REFRESH MATERIALIZED VIEW inverses;
SHOW TimeZone;
SELECT current_user = session_user AS same_user;
BEGIN;
SAVEPOINT s;
REFRESH MATERIALIZED VIEW inverses;
ROLLBACK TO s;
SHOW TimeZone;
SELECT current_user = session_user AS same_user, current_setting('search_path') AS search_path;
COMMIT;
DROP MATERIALIZED VIEW inverses;
DELETE FROM log WHERE a = 0;

-- Identity and search path, seen from a function in the query.
CREATE FUNCTION who(a int) RETURNS text IMMUTABLE LANGUAGE plpgsql AS
    'BEGIN RETURN current_user || '' '' || current_setting(''search_path''); END';
SET ROLE regress_id_owner;
CREATE MATERIALIZED VIEW whose WITH (pg_trickle.incremental) AS SELECT a, who(a) FROM log;
RESET ROLE;
INSERT INTO log VALUES (3, now(), now());
REFRESH MATERIALIZED VIEW whose;
TABLE whose ORDER BY a;
ALTER MATERIALIZED VIEW whose OWNER TO CURRENT_USER;
INSERT INTO log VALUES (4, now(), now());
REFRESH MATERIALIZED VIEW whose;
SELECT count(DISTINCT who) FROM whose;
DROP MATERIALIZED VIEW whose;

-- The same bytes whoever refreshes, of columns and of constants, which the planner computes.
CREATE ROLE regress_id_maintainer;
CREATE TABLE typed (a int PRIMARY KEY, b bytea, at timestamptz, d date, i interval, f float8, r real, m money);
GRANT SELECT, TRIGGER ON typed TO regress_id_owner;
CREATE PROCEDURE fill_typed(from_a int) LANGUAGE sql AS $$
    INSERT INTO typed SELECT g, int4send(g * 1000003), timestamptz '2024-03-09 22:30+00' + g * interval '7 hours', date '2024-03-01' + g,
        make_interval(months => g, days => -g, secs => g * 1.5), g / 7.0, g / 7.0, (g * 1234.5)::text::money
      FROM generate_series(from_a, from_a + 9) g $$;
CALL fill_typed(1);
\set query 'SELECT a, b::text AS b, at::text AS at, d::text AS d, i::text AS i, f::text AS f, r::text AS r, m::text AS m, at::date AS day, to_char(at, $$TMMonth TMDy HH24 TZ$$) AS c, ($$\\xdeadbeef$$::bytea)::text AS cb, (timestamptz $$2024-06-01 00:30+00$$)::text AS ct, (date $$2024-06-07$$)::text AS cd, (interval $$1 year -2 days 3.5 s$$)::text AS ci, (1::float8 / 3)::text AS cf, (1::real / 3)::text AS cr, array[$$2024-06-07$$::date]::text AS ca, ROW(interval $$1 day$$, 0.1::float8, $$\\x00$$::bytea)::text AS crow, to_json(timestamptz $$2024-06-01 00:30+00$$)::text AS cj, ARRAY[b]::text AS ab, ROW(i, f, b)::text AS row, jsonb_build_object(1, f, 2, at)::text AS j FROM typed WHERE length(($$\\x41$$::bytea)::text) = 4'
SET DateStyle = 'SQL, DMY';
SET IntervalStyle = 'postgres_verbose';
SET TimeZone = 'Asia/Tokyo';
SET bytea_output = hex;
SET extra_float_digits = -3;
SET ROLE regress_id_owner;
CREATE MATERIALIZED VIEW bytes WITH (pg_trickle.incremental) AS :query;
CREATE MATERIALIZED VIEW grouped_bytes WITH (pg_trickle.incremental) AS
    SELECT b::text, i::text, f::text, max(at::text), ('\xff'::bytea)::text AS c, string_agg((r)::text, ',') FROM typed GROUP BY 1, 2, 3;
GRANT MAINTAIN ON bytes, grouped_bytes TO regress_id_maintainer;
RESET ROLE;
CREATE MATERIALIZED VIEW plain_bytes AS :query;
CREATE MATERIALIZED VIEW plain_grouped_bytes AS
    SELECT b::text, i::text, f::text, max(at::text), ('\xff'::bytea)::text AS c, string_agg((r)::text, ',') FROM typed GROUP BY 1, 2, 3;
CREATE PROCEDURE refresh_plain() LANGUAGE plpgsql SET DateStyle = 'SQL, DMY' SET IntervalStyle = 'postgres_verbose'
    SET TimeZone = 'Asia/Tokyo' SET bytea_output = hex SET extra_float_digits = -3 AS $$
BEGIN
    REFRESH MATERIALIZED VIEW public.plain_bytes;
    REFRESH MATERIALIZED VIEW public.plain_grouped_bytes;
END $$;
CREATE FUNCTION all_differences() RETURNS bigint LANGUAGE sql AS
    $$ SELECT public.differences('bytes', 'plain_bytes') + public.differences('grouped_bytes', 'plain_grouped_bytes') $$;
CREATE PROCEDURE refresh_both() LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE 'EXPLAIN REFRESH MATERIALIZED VIEW bytes';
    REFRESH MATERIALIZED VIEW bytes;
    EXECUTE 'EXPLAIN ANALYZE REFRESH MATERIALIZED VIEW grouped_bytes';
END $$;
SELECT count(*), all_differences() FROM bytes;
RESET DateStyle;
RESET IntervalStyle;
RESET extra_float_digits;
SET bytea_output = escape;
SET pg_trickle.refresh_strategy = delta;
CALL fill_typed(11);
CALL refresh_both();
CALL refresh_plain();
SELECT count(*), all_differences() FROM bytes;
SET TimeZone = 'America/New_York';
SET DateStyle = 'German';
SET IntervalStyle = 'iso_8601';
SET extra_float_digits = 3;
CALL fill_typed(21);
SET ROLE regress_id_maintainer;
CALL refresh_both();
RESET ROLE;
CALL refresh_plain();
SELECT count(*), all_differences() FROM bytes;
DELETE FROM typed WHERE a % 3 = 0;
UPDATE typed SET f = f + 1, i = i * 2 WHERE a % 3 = 1;
SET DateStyle = 'ISO, YMD';
SET ROLE regress_id_owner;
CALL refresh_both();
RESET ROLE;
CALL refresh_plain();
SELECT count(*), all_differences() FROM bytes;
-- By the scheduler, which has the settings of the server.
ALTER SYSTEM SET pg_trickle.enabled = on;
SELECT pg_reload_conf();
CALL fill_typed(31);
SELECT pgtrickle.wait_until_fresh('bytes', '60s'), pgtrickle.wait_until_fresh('grouped_bytes', '60s');
ALTER SYSTEM RESET pg_trickle.enabled;
SELECT pg_reload_conf();
CALL refresh_plain();
SELECT count(*), all_differences() FROM bytes;
SET pg_trickle.refresh_strategy = full;
CALL fill_typed(41);
CALL refresh_both();
CALL refresh_plain();
SELECT count(*), all_differences() FROM bytes;
RESET pg_trickle.refresh_strategy;
RESET bytea_output;
RESET extra_float_digits;
RESET IntervalStyle;
SET client_min_messages = warning;
DROP TABLE typed CASCADE;
DROP PROCEDURE fill_typed, refresh_plain, refresh_both;
DROP FUNCTION all_differences, differences;
DROP ROLE regress_id_maintainer;
RESET client_min_messages;

-- A setting that makes the server leave rows out has no say.
CREATE TABLE tagged (id int PRIMARY KEY, tags int[]);
INSERT INTO tagged SELECT g, ARRAY[g % 2, g % 3 + 10] FROM generate_series(1, 20000) g;
CREATE INDEX ON tagged USING gin (tags);
SET gin_fuzzy_search_limit = 10;
SET enable_seqscan = off;
CREATE MATERIALIZED VIEW odd WITH (pg_trickle.incremental) AS SELECT id FROM tagged WHERE tags @> '{1}';
SELECT count(*) FROM odd;
SET pg_trickle.refresh_strategy = full;
UPDATE tagged SET tags = '{1, 2}' WHERE id = 2;
REFRESH MATERIALIZED VIEW odd;
SELECT count(*) FROM odd;
SHOW gin_fuzzy_search_limit;
RESET gin_fuzzy_search_limit;
RESET enable_seqscan;
RESET pg_trickle.refresh_strategy;
SET client_min_messages = warning;
DROP TABLE tagged CASCADE;
RESET client_min_messages;

-- Nor have those that decide what the text of a function means, which each session parses for itself.
CREATE FUNCTION is_nothing(a int) RETURNS boolean LANGUAGE sql IMMUTABLE AS 'SELECT a = NULL';
CREATE FUNCTION folder(a int) RETURNS text LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN RETURN 'c:\temp\' || a || '\'; END $$;
CREATE FUNCTION quoted(a int) RETURNS text LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN RETURN E'it\'s ' || a; END $$;
CREATE TABLE texts (a int PRIMARY KEY, b int);
INSERT INTO texts VALUES (1, 1), (2, NULL);
SET backslash_quote = on;
CREATE MATERIALIZED VIEW parsed WITH (pg_trickle.incremental) AS SELECT a, is_nothing(b), folder(a), quoted(a) FROM texts;
TABLE parsed ORDER BY a;
\c -
SET standard_conforming_strings = off;
SET escape_string_warning = off;
SET transform_null_equals = on;
SET backslash_quote = off;
INSERT INTO texts VALUES (3, 3), (4, NULL);
SET pg_trickle.refresh_strategy = delta;
REFRESH MATERIALIZED VIEW parsed;
TABLE parsed ORDER BY a;
SHOW standard_conforming_strings;
\c -
SET client_min_messages = warning;
DROP TABLE texts CASCADE;
DROP FUNCTION is_nothing, folder, quoted;
RESET client_min_messages;

-- Row security of the sources is the owner's.
CREATE TABLE secret (a int PRIMARY KEY, reader text);
INSERT INTO secret VALUES (1, 'regress_id_owner'), (2, 'regress_id_other');
GRANT SELECT, TRIGGER ON secret TO regress_id_owner;
ALTER TABLE secret ENABLE ROW LEVEL SECURITY;
CREATE POLICY mine ON secret USING (reader = current_user);
SET ROLE regress_id_owner;
CREATE MATERIALIZED VIEW seen WITH (pg_trickle.incremental) AS SELECT a FROM secret;
RESET ROLE;
INSERT INTO secret VALUES (3, 'regress_id_owner'), (4, 'regress_id_other');
REFRESH MATERIALIZED VIEW seen;
TABLE seen ORDER BY a;
UPDATE secret SET reader = 'regress_id_owner' WHERE a = 4;
UPDATE secret SET reader = 'regress_id_other' WHERE a = 1;
REFRESH MATERIALIZED VIEW seen;
TABLE seen ORDER BY a;
DROP POLICY mine ON secret;
CREATE POLICY small ON secret USING (a < 3);
REFRESH MATERIALIZED VIEW seen;
TABLE seen ORDER BY a;
ALTER TABLE secret DISABLE ROW LEVEL SECURITY;
REFRESH MATERIALIZED VIEW seen;
TABLE seen ORDER BY a;

RESET TimeZone;
RESET DateStyle;
SET client_min_messages = warning;
DROP TABLE log, secret CASCADE;
DROP FUNCTION who, inverse;
REVOKE CREATE ON SCHEMA public FROM regress_id_owner;
DROP ROLE regress_id_owner, regress_id_other;
