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
SET client_min_messages = warning;
DROP MATERIALIZED VIEW pinned_bytes, pinned_zone, pinned_union, pinned_except;
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
