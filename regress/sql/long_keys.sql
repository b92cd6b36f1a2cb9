-- Group keys longer than an index entry, and more of them than an index has columns.
CREATE SCHEMA long_keys;
SET search_path = long_keys;
CREATE TABLE page (id int PRIMARY KEY, body text, tags text[], note jsonb);
-- Text that does not compress.
CREATE FUNCTION noise(seed int, bytes int) RETURNS text LANGUAGE sql IMMUTABLE AS $$
    SELECT string_agg(encode(sha512(format('%s %s', $1, n)::bytea), 'hex'), '') FROM generate_series(1, $2 / 128) n $$;
INSERT INTO page SELECT i, noise(i % 3, 4096), ARRAY[noise(i % 2, 3072)], to_jsonb(i % 2) FROM generate_series(1, 12) i;
INSERT INTO page VALUES (20, NULL, '{}', NULL), (21, NULL, '{}', '1.0');
CREATE MATERIALIZED VIEW bodies WITH (pg_trickle.incremental, pg_trickle.refresh_mode = 'DIFFERENTIAL') AS
    SELECT body, count(*) AS n, max(id) AS last FROM page GROUP BY body;
CREATE MATERIALIZED VIEW mixed WITH (pg_trickle.incremental, pg_trickle.refresh_mode = 'DIFFERENTIAL') AS
    SELECT tags, note, count(*) AS n FROM page GROUP BY tags, note;
\getenv srcdir PG_ABS_SRCDIR
\set helpers :srcdir '/data/wrong.sql'
\i :helpers
SET pg_trickle.refresh_strategy = delta;
UPDATE page SET body = noise(7, 8192), note = '1.0' WHERE id IN (3, 20);
DELETE FROM page WHERE id IN (1, 4, 21);
INSERT INTO page SELECT i, noise(i % 3, 4096), ARRAY[noise(i % 2, 3072)], to_jsonb((i % 2)::numeric(3, 1)) FROM generate_series(30, 34) i;
REFRESH MATERIALIZED VIEW bodies;
REFRESH MATERIALIZED VIEW mixed;
SELECT wrong('bodies'), wrong('mixed', by_equality => true);
SELECT length(body), n, last FROM bodies ORDER BY md5(body);
DELETE FROM page WHERE id % 2 = 0;
UPDATE page SET tags = '{}';
REFRESH MATERIALIZED VIEW bodies;
REFRESH MATERIALIZED VIEW mixed;
SELECT wrong('bodies'), wrong('mixed', by_equality => true);
SELECT note, n FROM mixed ORDER BY note;

-- 40 columns.
SELECT format('CREATE TABLE broad (%s)', string_agg(format('c%s int', i), ', ')) FROM generate_series(1, 40) i \gexec
SELECT format('CREATE MATERIALIZED VIEW broadest WITH (pg_trickle.incremental) AS SELECT %1$s, count(*) FROM broad GROUP BY %1$s',
              string_agg(format('c%s', i), ', ')) FROM generate_series(1, 40) i \gexec
INSERT INTO broad (c1, c40) VALUES (1, 1), (1, 1), (1, 2), (NULL, 1);
REFRESH MATERIALIZED VIEW broadest;
DELETE FROM broad WHERE c40 = 2;
UPDATE broad SET c2 = 1 WHERE c1 IS NULL;
REFRESH MATERIALIZED VIEW broadest;
SELECT wrong('broadest');
SELECT c1, c2, c40, count FROM broadest ORDER BY c1;

-- Neither indexable nor hashable.
CREATE TABLE document (id int PRIMARY KEY, words tsvector);
CREATE MATERIALIZED VIEW words WITH (pg_trickle.incremental, pg_trickle.refresh_mode = 'DIFFERENTIAL') AS
    SELECT words, count(*) FROM document GROUP BY words;
CREATE MATERIALIZED VIEW words WITH (pg_trickle.incremental) AS SELECT words, count(*) FROM document GROUP BY words;
SELECT effective_mode, downgrade_reason FROM pgtrickle.explain_refresh_mode('words');
INSERT INTO document SELECT i, (SELECT string_agg(noise(i % 2 * 1000 + n, 128), ' ') FROM generate_series(1, 50) n)::tsvector
    FROM generate_series(1, 4) i;
REFRESH MATERIALIZED VIEW words;
SELECT wrong('words'), (SELECT sum(count) FROM words);

SET client_min_messages = warning;
DROP SCHEMA long_keys CASCADE;
