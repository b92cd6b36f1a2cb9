-- Statistics of a table that is read as of the last refresh are shown to an operator that may leak only where its
-- owner may read all rows: here a policy, or a missing privilege, hides some.
CREATE ROLE regress_reader;
CREATE SCHEMA hidden;
GRANT ALL ON SCHEMA hidden TO regress_reader;
CREATE TABLE hidden.secret (id int PRIMARY KEY, word text, owner text);
INSERT INTO hidden.secret SELECT g, CASE WHEN g % 2 = 0 THEN 'treasure' ELSE 'w' || g END,
    CASE WHEN g % 2 = 0 THEN 'nobody' ELSE 'regress_reader' END FROM generate_series(1, 1000) g;
CREATE TABLE hidden.public (id int PRIMARY KEY, word text);
INSERT INTO hidden.public SELECT g, CASE WHEN g % 2 = 0 THEN 'common' ELSE 'p' || g END FROM generate_series(1, 1000) g;
ANALYZE hidden.secret, hidden.public;
GRANT SELECT, TRIGGER ON hidden.secret, hidden.public TO regress_reader;
CREATE POLICY mine ON hidden.secret USING (owner = 'regress_reader');
ALTER TABLE hidden.secret ENABLE ROW LEVEL SECURITY;
SET ROLE regress_reader;
CREATE FUNCTION hidden.leak(text, text) RETURNS boolean IMMUTABLE LANGUAGE plpgsql AS $$
BEGIN
    IF $1 = 'treasure' THEN RAISE WARNING 'leaked: %', $1; END IF;
    RETURN $1 = $2;
END $$;
CREATE OPERATOR hidden.=== (FUNCTION = hidden.leak, LEFTARG = text, RIGHTARG = text, JOIN = eqjoinsel);
CREATE MATERIALIZED VIEW hidden.seen WITH (pg_trickle.incremental) AS
    SELECT s.id, s.word, p.id AS other FROM hidden.public p JOIN hidden.secret s ON s.word OPERATOR(hidden.===) p.word;
RESET ROLE;
-- Both have changed: one of the two is read as of the last refresh.
INSERT INTO hidden.public VALUES (1001, 'w'), (1002, 'w3');
INSERT INTO hidden.secret VALUES (1001, 'w', 'regress_reader'), (1002, 'treasure', 'nobody');
SET pg_trickle.refresh_strategy = delta;
REFRESH MATERIALIZED VIEW hidden.seen;
SELECT count(*), count(*) FILTER (WHERE word = 'treasure') AS treasures FROM hidden.seen;
SET client_min_messages = error;
DROP SCHEMA hidden CASCADE;
DROP ROLE regress_reader;
