/* From 0.1.0 to 0.2.0: what this leaves is what pg_trickle--0.2.0.sql makes. */
\echo Use "ALTER EXTENSION pg_trickle UPDATE TO '0.2.0'" to load this file. \quit

-- One row: what the catalog below looks like (CATALOG_VERSION of the library that made or updated it), and the server on
-- which capture was last found complete. Another identifier or catalog version of the server: pg_upgrade, which leaves
-- capture triggers behind.
CREATE TABLE pgtrickle_internal.installation (
    catalog_version   integer NOT NULL,
    system_identifier bigint,
    server_catversion integer,
    library           text
);
-- On which server capture is complete is not known: the scheduler looks at it, and has every view recomputed once.
INSERT INTO pgtrickle_internal.installation (catalog_version) VALUES (2);

-- What the scheduler does by itself. It locks the tables it repairs against writers, so it is not for everybody.
CREATE FUNCTION pgtrickle.repair_capture() RETURNS integer
    LANGUAGE c AS 'MODULE_PATHNAME', 'repair_capture_wrapper';
REVOKE EXECUTE ON FUNCTION pgtrickle.repair_capture() FROM PUBLIC;
COMMENT ON FUNCTION pgtrickle.repair_capture() IS 'puts capture triggers in order; how many tables may have lost changes';
