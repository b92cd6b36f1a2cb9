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

-- Why contents were computed anew. Markers of pgtrickle_internal.reinit that 0.1.0 left are answered as they stand.
ALTER TABLE pgtrickle.pgt_refresh_history ADD COLUMN reason text;

-- Column shape of pgtrickle_internal.source is made in another way. Nothing reads it before the next DDL of that table, which
-- then finds a changed definition and has the readers recomputed once.
-- State tables have the format that the library which made them gave them: 0 is that of 0.1.0.
ALTER TABLE pgtrickle_internal.state ADD COLUMN format smallint NOT NULL DEFAULT 0;
ALTER TABLE pgtrickle_internal.state ALTER COLUMN format DROP DEFAULT;

-- Whether the library and these objects fit, and what each of them is.
CREATE FUNCTION pgtrickle_internal.versions() RETURNS TABLE (fits boolean, detail text)
    LANGUAGE c STABLE AS 'MODULE_PATHNAME', 'versions_wrapper';

-- Where processes have run out; no row: there is room for all.
CREATE FUNCTION pgtrickle_internal.rotation() RETURNS TABLE (waiting timestamptz, databases integer, places integer)
    LANGUAGE c VOLATILE AS 'MODULE_PATHNAME', 'rotation_wrapper';

CREATE OR REPLACE VIEW pgtrickle.quick_health AS
    SELECT total_stream_tables,
           error_tables,
           stale_tables,
           pgtrickle_internal.scheduler_running() AS scheduler_running,
           CASE WHEN error_tables > 0 THEN 'ERROR'
                WHEN r.places IS NOT NULL AND total_stream_tables > 0 THEN 'NO_ROOM'
                WHEN stale_tables > 0 THEN 'STALE'
                ELSE 'OK' END AS status,
           -- Of NO_ROOM: since when, and what to do.
           CASE WHEN r.places IS NOT NULL AND total_stream_tables > 0
                THEN CASE WHEN r.waiting IS NULL THEN '' ELSE format('no room for a scheduler since %s: ', r.waiting) END
                     || format('%s databases take turns in %s places; raise max_worker_processes, which is %s', r.databases, r.places,
                               current_setting('max_worker_processes')) END AS detail
      FROM (SELECT count(*) AS total_stream_tables,
                   count(*) FILTER (WHERE status = 'ERROR' OR consecutive_errors > 0) AS error_tables,
                   count(*) FILTER (WHERE stale) AS stale_tables
              FROM pgtrickle.stream_tables_info) t
      LEFT JOIN pgtrickle_internal.rotation() r ON true;

CREATE OR REPLACE FUNCTION pgtrickle.health_check() RETURNS TABLE (check_name text, severity text, detail text)
    LANGUAGE sql STABLE
BEGIN ATOMIC
    WITH st AS (
        SELECT format('%I.%I', pgt_schema, pgt_name) AS name, status, consecutive_errors, waits_for
          FROM pgtrickle.pgt_stream_tables
         ORDER BY pgt_id
    ), named AS (
        SELECT count(*) AS total,
               string_agg(name, ', ') FILTER (WHERE status = 'ERROR') AS failed,
               string_agg(name, ', ') FILTER (WHERE status = 'ACTIVE' AND consecutive_errors > 0) AS failing,
               string_agg(name, ', ') FILTER (WHERE status = 'SUSPENDED') AS suspended,
               string_agg(name, ', ') FILTER (WHERE status = 'INITIALIZING') AS empty,
               string_agg(format('%s (for %s)', name, array_to_string(waits_for, ', ')), '; ')
                   FILTER (WHERE waits_for IS NOT NULL) AS waiting
          FROM st
    ), capture AS (
        SELECT string_agg(source_table, ', ') FILTER (WHERE alert LIKE 'TRIGGERS%') AS uncaptured,
               string_agg(format('%s (%s)', source_table, pg_catalog.pg_size_pretty(buffer_bytes)), ', ')
                   FILTER (WHERE alert = 'BUFFER_GROWTH') AS grown
          FROM pgtrickle.check_cdc_health()
    ), scheduler AS (
        SELECT pgtrickle_internal.scheduler_running() AS running,
               pgtrickle_internal.paused_since() AS paused,
               pg_catalog.pg_is_in_recovery() AS standby,
               current_setting('pg_trickle.enabled')::boolean AS enabled,
               clock_timestamp() - pgtrickle_internal.overdue_since() AS late,
               r.waiting AS no_room_since, r.places IS NOT NULL AS sharing,
               format('%s databases take turns in %s places; raise max_worker_processes, which is %s', r.databases, r.places,
                      current_setting('max_worker_processes')) AS turns
          FROM (VALUES (1)) AS one LEFT JOIN pgtrickle_internal.rotation() r ON true
    )
    SELECT 'scheduler',
           CASE WHEN total = 0 OR standby THEN 'OK'
                WHEN paused IS NOT NULL OR NOT enabled THEN 'WARNING'
                WHEN sharing THEN 'WARNING'
                WHEN NOT running THEN 'ERROR'
                ELSE 'OK' END,
           CASE WHEN standby THEN 'a standby does not refresh'
                WHEN NOT enabled THEN 'pg_trickle.enabled is off'
                WHEN paused IS NOT NULL THEN format('paused since %s: pgtrickle.resume_all() goes on', paused)
                WHEN no_room_since IS NOT NULL AND total > 0 THEN format('no room for a scheduler since %s: %s', no_room_since, turns)
                WHEN sharing AND total > 0 THEN format('%s: %s', CASE WHEN running THEN 'running' ELSE 'nothing to do' END, turns)
                WHEN running THEN 'running'
                WHEN total = 0 THEN 'no stream tables'
                ELSE 'not running: see the server''s log' END
      FROM scheduler, named
    UNION ALL
    SELECT 'versions', CASE WHEN fits THEN 'OK' ELSE 'ERROR' END, v.detail FROM pgtrickle_internal.versions() v
    UNION ALL
    SELECT 'overdue refreshes',
           CASE WHEN late > interval '10 s' THEN 'WARNING' ELSE 'OK' END,
           CASE WHEN late > interval '10 s'
                THEN format('the oldest waits for %s: pg_trickle.max_parallel_refreshes, max_worker_processes', date_trunc('second', late))
                ELSE 'none' END
      FROM scheduler
    UNION ALL SELECT 'failed stream tables', CASE WHEN failed IS NULL THEN 'OK' ELSE 'ERROR' END, coalesce(failed, 'none') FROM named
    UNION ALL SELECT 'failing stream tables', CASE WHEN failing IS NULL THEN 'OK' ELSE 'WARNING' END, coalesce(failing, 'none') FROM named
    UNION ALL SELECT 'suspended stream tables', CASE WHEN suspended IS NULL THEN 'OK' ELSE 'WARNING' END, coalesce(suspended, 'none') FROM named
    UNION ALL SELECT 'empty stream tables', CASE WHEN empty IS NULL THEN 'OK' ELSE 'WARNING' END, coalesce(empty, 'none') FROM named
    UNION ALL SELECT 'waiting stream tables', CASE WHEN waiting IS NULL THEN 'OK' ELSE 'WARNING' END, coalesce(waiting, 'none') FROM named
    UNION ALL SELECT 'capture', CASE WHEN uncaptured IS NULL THEN 'OK' ELSE 'ERROR' END,
           coalesce('triggers missing or disabled: ' || uncaptured, 'complete') FROM capture
    UNION ALL SELECT 'change buffers', CASE WHEN grown IS NULL THEN 'OK' ELSE 'WARNING' END,
           coalesce('larger than their tables: ' || grown, 'small') FROM capture;
END;

-- State tables belong to the owner of the extension, as whom ANALYZE would call functions that users' types bring along. No
-- locks: there may be more of these tables than a transaction can lock, and nothing but ANALYZE reads this.
UPDATE pg_catalog.pg_attribute a SET attstattarget = 0
  FROM pg_catalog.pg_class c
 WHERE c.oid = a.attrelid AND c.relnamespace = 'pgtrickle_internal'::pg_catalog.regnamespace AND c.relkind = 'r'
   AND c.relname ~ '^(changes|state)_[0-9]' AND a.attnum > 0 AND NOT a.attisdropped;

-- Settings that 0.1.0 did not keep for a view: from now on they are what they are here.
UPDATE pgtrickle_internal.stream_table SET pinned = pinned || ARRAY(
    SELECT name || '=' || pg_catalog.current_setting(name)
      FROM pg_catalog.unnest('{DateStyle,IntervalStyle,TimeZone,array_nulls,backslash_quote,bytea_output,default_text_search_config,extra_float_digits,lc_monetary,lc_numeric,lc_time,quote_all_identifiers,standard_conforming_strings,timezone_abbreviations,transform_null_equals,xmlbinary,xmloption}'::text[]) name
     WHERE name <> ALL (SELECT pg_catalog.split_part(kept, '=', 1) FROM pg_catalog.unnest(pinned) kept));

-- Rows that came or went with a whole partition, child or table, as changes: what a refresh says of them.
CREATE TABLE pgtrickle_internal.moved (
    view   oid    NOT NULL,
    reason text   NOT NULL, -- CODE: sentence
    rows   bigint NOT NULL
);
CREATE INDEX moved_view ON pgtrickle_internal.moved (view);

-- What 0.1.0 computed, it may have computed as somebody else or under other settings: every view is computed anew once.
INSERT INTO pgtrickle_internal.reinit (view, reason)
    SELECT relid, 'FORMAT_CHANGED: What is stored for it has the format of another release.'
      FROM pgtrickle_internal.stream_table WHERE frontier IS NOT NULL;
-- What the scheduler does by itself. It locks the tables it repairs against writers, so it is not for everybody.
CREATE FUNCTION pgtrickle.repair_capture() RETURNS integer
    LANGUAGE c AS 'MODULE_PATHNAME', 'repair_capture_wrapper';
REVOKE EXECUTE ON FUNCTION pgtrickle.repair_capture() FROM PUBLIC;
COMMENT ON FUNCTION pgtrickle.repair_capture() IS 'puts capture triggers in order; how many tables may have lost changes';
