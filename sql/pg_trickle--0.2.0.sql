/* Catalog, functions and views of pg_trickle. */
\echo Use "CREATE EXTENSION pg_trickle" to load this file. \quit

CREATE SCHEMA pgtrickle;
COMMENT ON SCHEMA pgtrickle IS 'stream tables: functions and views of pg_trickle';
GRANT USAGE ON SCHEMA pgtrickle TO PUBLIC;

-- What the extension remembers. Nobody but its owner may look inside; the views in schema pgtrickle show what there is to see.
CREATE SCHEMA pgtrickle_internal;
COMMENT ON SCHEMA pgtrickle_internal IS 'internal state of pg_trickle';
REVOKE ALL ON SCHEMA pgtrickle_internal FROM PUBLIC;

-- The library's hooks and shared memory exist only when the server preloads it: say so now rather than later.
CREATE FUNCTION pgtrickle_internal.require_preload() RETURNS void
    LANGUAGE c STRICT AS 'MODULE_PATHNAME', 'require_preload_wrapper';
SELECT pgtrickle_internal.require_preload();

-- What the engine makes of a materialized view's query: for tests and for looking at it.
CREATE FUNCTION pgtrickle_internal.circuit(view regclass) RETURNS text
    LANGUAGE c STRICT AS 'MODULE_PATHNAME', 'circuit_text_wrapper';

-- One row: what the catalog below looks like (CATALOG_VERSION of the library that made or updated it), and the server on
-- which capture was last found complete. Another identifier or catalog version of the server: pg_upgrade, which leaves
-- capture triggers behind.
CREATE TABLE pgtrickle_internal.installation (
    catalog_version   integer NOT NULL,
    system_identifier bigint,
    server_catversion integer,
    library           text
);
-- The server that creates the extension: nothing is captured yet, so capture is complete on it.
INSERT INTO pgtrickle_internal.installation (catalog_version, system_identifier, server_catversion, library)
    SELECT 2, system_identifier, catalog_version_no, '0.2.0' FROM pg_catalog.pg_control_system();

-- One row per stream table. Its schedule, refresh_mode and cdc_mode stand in pg_class.reloptions only.
CREATE TABLE pgtrickle_internal.stream_table (
    relid              oid         PRIMARY KEY,
    id                 bigint      NOT NULL,
    fingerprint        bigint      NOT NULL, -- of the rewritten query
    status             text        NOT NULL,
    effective_mode     text        NOT NULL,
    downgrade_reason   text,
    captured           boolean     NOT NULL, -- changes of its sources are captured for it
    pinned             text[]      NOT NULL, -- name=value of settings in force when it was made
    frontier           bytea,                -- null: unpopulated
    storage            oid,                  -- relfilenode after the last refresh,
    server_start       timestamptz,          -- by the server started then
    data_timestamp     timestamptz,
    last_refresh_at    timestamptz,
    consecutive_errors integer     NOT NULL,
    last_error         text,
    last_error_at      timestamptz,
    created_at         timestamptz NOT NULL
) WITH (fillfactor = 50);
CREATE SEQUENCE pgtrickle_internal.stream_table_id;

-- Recomputes that are due. A marker is inserted with the change that calls for it and deleted by the first refresh whose
-- snapshot sees it, so that neither waits for the other.
CREATE TABLE pgtrickle_internal.reinit (
    view   oid  NOT NULL,
    reason text NOT NULL -- CODE: sentence
);
CREATE INDEX reinit_view ON pgtrickle_internal.reinit (view);

-- Rows that came or went with a whole partition, child or table, as changes: what a refresh says of them.
CREATE TABLE pgtrickle_internal.moved (
    view   oid    NOT NULL,
    reason text   NOT NULL, -- CODE: sentence
    rows   bigint NOT NULL
);
CREATE INDEX moved_view ON pgtrickle_internal.moved (view);

-- One row per captured base table or consumed stream table.
CREATE TABLE pgtrickle_internal.source (
    relid     oid        PRIMARY KEY,
    segment_a oid        NOT NULL,
    segment_b oid        NOT NULL,
    active    "char"     NOT NULL, -- a or b
    level     "char"     NOT NULL, -- s(tatement) or r(ow) triggers
    cdc       text       NOT NULL,
    columns   smallint[] NOT NULL, -- captured attribute numbers
    members   oid[]      NOT NULL, -- itself and its partitions and children
    shape     bigint     NOT NULL, -- fingerprint of what stored rows rely on
    proofs    bigint     NOT NULL  -- fingerprint of constraints delta plans rely on
);

-- Behind every capture trigger. Triggers fire without anybody having the right to call it.
CREATE FUNCTION pgtrickle_internal.capture() RETURNS trigger
    LANGUAGE c AS 'MODULE_PATHNAME', 'pgtrickle_capture';
REVOKE EXECUTE ON FUNCTION pgtrickle_internal.capture() FROM PUBLIC;

-- Which view reads what.
CREATE TABLE pgtrickle_internal.dependency (
    view       oid        NOT NULL,
    source     oid        NOT NULL,
    capturable boolean    NOT NULL,
    columns    smallint[] NOT NULL, -- attribute numbers read
    PRIMARY KEY (view, source)
);
CREATE INDEX dependency_source ON pgtrickle_internal.dependency (source);

-- A row: scheduled refreshes are paused.
CREATE TABLE pgtrickle_internal.paused (since timestamptz NOT NULL);

-- State tables of stateful blocks.
CREATE TABLE pgtrickle_internal.state (
    view   oid      NOT NULL,
    block  smallint NOT NULL,
    relid  oid      NOT NULL,
    format smallint NOT NULL, -- of its columns and values
    PRIMARY KEY (view, block)
);

-- The expression under the index of a view without a (short) key: equal images, equal hashes.
CREATE FUNCTION pgtrickle.row_image_hash(VARIADIC "any") RETURNS bigint
    LANGUAGE c IMMUTABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'row_image_hash';
COMMENT ON FUNCTION pgtrickle.row_image_hash("any") IS 'hash of a row''s values as stored';
-- What refreshes did. Messages of failures may quote data: they are shown to those who may refresh the view themselves.
CREATE TABLE pgtrickle.pgt_refresh_history (
    pgt_relid      oid              NOT NULL,
    refresh_id     bigint           NOT NULL,
    data_timestamp timestamptz,
    start_time     timestamptz      NOT NULL,
    end_time       timestamptz      NOT NULL,
    action         text             NOT NULL,
    status         text             NOT NULL,
    initiated_by   text             NOT NULL,
    rows_inserted  bigint           NOT NULL,
    rows_updated   bigint           NOT NULL,
    rows_deleted   bigint           NOT NULL,
    duration_ms    double precision NOT NULL,
    error_message  text,
    -- Of a scheduled refresh: from the first commit that the view did not show until it did. Null when that is not known.
    commit_to_visible_ms double precision,
    -- Of a REINITIALIZE: why the contents could not be continued, as CODE: sentence.
    reason         text,
    PRIMARY KEY (pgt_relid, refresh_id)
);
CREATE SEQUENCE pgtrickle_internal.refresh_id;
ALTER TABLE pgtrickle.pgt_refresh_history ENABLE ROW LEVEL SECURITY;
CREATE POLICY maintainers ON pgtrickle.pgt_refresh_history FOR SELECT
    USING (pg_catalog.has_table_privilege(pgt_relid, 'MAINTAIN'));
GRANT SELECT ON pgtrickle.pgt_refresh_history TO PUBLIC;

-- Creating, changing, refreshing and dropping: each runs the statement of the same meaning with the caller's rights.
CREATE FUNCTION pgtrickle.create_stream_table(
        name text, query text, schedule text DEFAULT 'calculated', refresh_mode text DEFAULT 'AUTO',
        initialize boolean DEFAULT true, cdc_mode text DEFAULT NULL) RETURNS void
    LANGUAGE c AS 'MODULE_PATHNAME', 'create_stream_table_wrapper';
CREATE FUNCTION pgtrickle.create_stream_table_if_not_exists(
        name text, query text, schedule text DEFAULT 'calculated', refresh_mode text DEFAULT 'AUTO',
        initialize boolean DEFAULT true, cdc_mode text DEFAULT NULL) RETURNS void
    LANGUAGE c AS 'MODULE_PATHNAME', 'create_stream_table_if_not_exists_wrapper';
CREATE FUNCTION pgtrickle.create_or_replace_stream_table(
        name text, query text, schedule text DEFAULT 'calculated', refresh_mode text DEFAULT 'AUTO',
        initialize boolean DEFAULT true, cdc_mode text DEFAULT NULL) RETURNS void
    LANGUAGE c AS 'MODULE_PATHNAME', 'create_or_replace_stream_table_wrapper';
CREATE FUNCTION pgtrickle.alter_stream_table(
        name text, query text DEFAULT NULL, schedule text DEFAULT NULL, refresh_mode text DEFAULT NULL,
        status text DEFAULT NULL, cdc_mode text DEFAULT NULL) RETURNS void
    LANGUAGE c AS 'MODULE_PATHNAME', 'alter_stream_table_wrapper';
CREATE FUNCTION pgtrickle.drop_stream_table(name text, cascade boolean DEFAULT false) RETURNS void
    LANGUAGE c AS 'MODULE_PATHNAME', 'drop_stream_table_wrapper';
CREATE FUNCTION pgtrickle.refresh_stream_table(name text) RETURNS void
    LANGUAGE c AS 'MODULE_PATHNAME', 'refresh_stream_table_wrapper';
CREATE FUNCTION pgtrickle.resume_stream_table(name text) RETURNS void
    LANGUAGE c AS 'MODULE_PATHNAME', 'resume_stream_table_wrapper';
-- For the whole database, so not for everybody.
CREATE FUNCTION pgtrickle.pause_all() RETURNS void
    LANGUAGE c AS 'MODULE_PATHNAME', 'pause_all_wrapper';
CREATE FUNCTION pgtrickle.resume_all() RETURNS void
    LANGUAGE c AS 'MODULE_PATHNAME', 'resume_all_wrapper';
REVOKE EXECUTE ON FUNCTION pgtrickle.pause_all(), pgtrickle.resume_all() FROM PUBLIC;
CREATE FUNCTION pgtrickle.version() RETURNS text
    LANGUAGE c IMMUTABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'version_wrapper';

-- The stream table of a name; an error with a hint when it is none.
CREATE FUNCTION pgtrickle.stream_table(name text) RETURNS regclass
    LANGUAGE c STABLE STRICT AS 'MODULE_PATHNAME', 'stream_table_wrapper';

-- Views. Anybody may read them: they show no more than pg_class and pg_matviews do, except messages of failures, which
-- may quote data and are shown to those who may refresh the view themselves.
CREATE FUNCTION pgtrickle_internal.frontier_text(frontier bytea) RETURNS text
    LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'frontier_text_wrapper';

CREATE VIEW pgtrickle.pgt_stream_tables AS
    SELECT st.id AS pgt_id,
           st.relid AS pgt_relid,
           c.relname AS pgt_name,
           n.nspname AS pgt_schema,
           pg_catalog.pg_get_viewdef(st.relid) AS defining_query,
           coalesce(o.schedule, 'calculated') AS schedule,
           coalesce(o.refresh_mode, 'AUTO') AS refresh_mode,
           st.effective_mode AS effective_refresh_mode,
           st.status,
           c.relispopulated AS is_populated,
           st.data_timestamp,
           pgtrickle_internal.frontier_text(st.frontier) AS frontier,
           st.last_refresh_at,
           st.consecutive_errors,
           CASE WHEN pg_catalog.has_table_privilege(st.relid, 'MAINTAIN') THEN st.last_error END AS last_error_message,
           st.last_error_at,
           EXISTS (SELECT FROM pgtrickle_internal.reinit r WHERE r.view = st.relid) AS needs_reinit,
           st.created_at,
           st.downgrade_reason,
           (WITH RECURSIVE above AS (
                SELECT d.source FROM pgtrickle_internal.dependency d WHERE d.view = st.relid
                UNION SELECT d.source FROM above JOIN pgtrickle_internal.dependency d ON d.view = above.source)
            SELECT pg_catalog.array_agg(format('%I.%I', un.nspname, uc.relname) ORDER BY u.id)
              FROM above
              JOIN pgtrickle_internal.stream_table u ON u.relid = above.source AND u.status <> 'ACTIVE'
              JOIN pg_catalog.pg_class uc ON uc.oid = u.relid
              JOIN pg_catalog.pg_namespace un ON un.oid = uc.relnamespace) AS waits_for
      FROM pgtrickle_internal.stream_table st
      JOIN pg_catalog.pg_class c ON c.oid = st.relid
      JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
     CROSS JOIN LATERAL (
           SELECT max(option_value) FILTER (WHERE option_name = 'pg_trickle.schedule') AS schedule,
                  max(option_value) FILTER (WHERE option_name = 'pg_trickle.refresh_mode') AS refresh_mode
             FROM pg_catalog.pg_options_to_table(c.reloptions)) o;
COMMENT ON VIEW pgtrickle.pgt_stream_tables IS 'every stream table of this database';

CREATE VIEW pgtrickle.pgt_dependencies AS
    SELECT st.id AS pgt_id,
           d.source AS source_relid,
           CASE WHEN EXISTS (SELECT FROM pgtrickle_internal.stream_table u WHERE u.relid = d.source) THEN 'STREAM_TABLE'
                ELSE CASE c.relkind WHEN 'r' THEN 'TABLE' WHEN 'p' THEN 'PARTITIONED_TABLE' WHEN 'm' THEN 'MATERIALIZED_VIEW'
                                    WHEN 'f' THEN 'FOREIGN_TABLE' ELSE 'OTHER' END
           END AS source_type,
           ARRAY(SELECT a.attname FROM pg_catalog.pg_attribute a
                  WHERE a.attrelid = d.source AND a.attnum > 0 AND NOT a.attisdropped
                    AND (a.attnum = ANY (d.columns) OR 0 = ANY (d.columns))
                  ORDER BY a.attnum)::text[] AS columns_used,
           CASE WHEN st.captured AND d.capturable THEN s.cdc ELSE 'none' END AS cdc_mode
      FROM pgtrickle_internal.dependency d
      JOIN pgtrickle_internal.stream_table st ON st.relid = d.view
      JOIN pg_catalog.pg_class c ON c.oid = d.source
      LEFT JOIN pgtrickle_internal.source s ON s.relid = d.source;
COMMENT ON VIEW pgtrickle.pgt_dependencies IS 'what every stream table reads, and how its changes are captured';

CREATE VIEW pgtrickle.pgt_cdc_status AS
    SELECT s.relid AS source_relid,
           n.nspname AS source_schema,
           c.relname AS source_name,
           s.cdc AS cdc_mode,
           CASE s.level WHEN 's' THEN 'STATEMENT' ELSE 'ROW' END AS trigger_level,
           ARRAY(SELECT a.attname FROM pg_catalog.pg_attribute a
                  WHERE a.attrelid = s.relid AND a.attnum = ANY (s.columns)
                  ORDER BY a.attnum)::text[] AS captured_columns,
           s.members AS tables, -- itself and its partitions or children
           (SELECT count(*) FROM pgtrickle_internal.dependency d WHERE d.source = s.relid) AS stream_tables,
           coalesce(pg_catalog.pg_table_size(s.segment_a), 0) + coalesce(pg_catalog.pg_table_size(s.segment_b), 0)
               AS buffer_bytes
      FROM pgtrickle_internal.source s
      JOIN pg_catalog.pg_class c ON c.oid = s.relid
      JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace;
COMMENT ON VIEW pgtrickle.pgt_cdc_status IS 'how the changes of every source are captured';

CREATE VIEW pgtrickle.pg_stat_stream_tables AS
    SELECT st.pgt_id,
           st.pgt_schema,
           st.pgt_name,
           st.status,
           st.refresh_mode,
           st.is_populated,
           st.data_timestamp,
           pg_catalog.now() - st.data_timestamp AS staleness,
           h.total_refreshes,
           h.successful_refreshes,
           h.failed_refreshes,
           h.total_rows_inserted,
           h.total_rows_updated,
           h.total_rows_deleted,
           h.avg_duration_ms,
           h.duration[1] AS p50_duration_ms,
           h.duration[2] AS p95_duration_ms,
           h.duration[3] AS p99_duration_ms,
           h.commit_to_visible[1] AS p50_commit_to_visible_ms,
           h.commit_to_visible[2] AS p95_commit_to_visible_ms,
           h.commit_to_visible[3] AS p99_commit_to_visible_ms
      FROM pgtrickle.pgt_stream_tables st
     CROSS JOIN LATERAL (
           SELECT count(*) AS total_refreshes,
                  count(*) FILTER (WHERE status = 'COMPLETED') AS successful_refreshes,
                  count(*) FILTER (WHERE status = 'FAILED') AS failed_refreshes,
                  coalesce(sum(rows_inserted), 0)::bigint AS total_rows_inserted,
                  coalesce(sum(rows_updated), 0)::bigint AS total_rows_updated,
                  coalesce(sum(rows_deleted), 0)::bigint AS total_rows_deleted,
                  avg(duration_ms) FILTER (WHERE status = 'COMPLETED') AS avg_duration_ms,
                  percentile_cont(ARRAY[0.5, 0.95, 0.99]) WITHIN GROUP (ORDER BY duration_ms)
                      FILTER (WHERE status = 'COMPLETED') AS duration,
                  -- Of scheduled refreshes; an aggregate of this kind leaves nulls out.
                  percentile_cont(ARRAY[0.5, 0.95, 0.99]) WITHIN GROUP (ORDER BY commit_to_visible_ms) AS commit_to_visible
             FROM pgtrickle.pgt_refresh_history h WHERE h.pgt_relid = st.pgt_relid) h;
COMMENT ON VIEW pgtrickle.pg_stat_stream_tables IS 'refreshes of every stream table, as far as the history reaches';

-- Refreshes under way, in the manner of the server's own progress views: of the whole server, whoever runs them.
CREATE FUNCTION pgtrickle_internal.refresh_progress()
    RETURNS TABLE (pid integer, datid oid, relid oid, initiated_by text, phase text, rows_done bigint, rows_expected bigint,
                   views_done integer, views_total integer, start_time timestamptz)
    LANGUAGE c VOLATILE AS 'MODULE_PATHNAME', 'refresh_progress_wrapper';

CREATE VIEW pgtrickle.pg_stat_progress_stream_table AS
    SELECT p.pid,
           p.datid,
           d.datname,
           p.relid,
           p.initiated_by,
           p.phase,
           p.rows_done,
           p.rows_expected,
           p.views_done,
           p.views_total,
           p.start_time
      FROM pgtrickle_internal.refresh_progress() p
      LEFT JOIN pg_catalog.pg_database d ON d.oid = p.datid;
COMMENT ON VIEW pgtrickle.pg_stat_progress_stream_table IS 'refreshes under way, one row per process';

GRANT SELECT ON pgtrickle.pgt_stream_tables, pgtrickle.pgt_dependencies, pgtrickle.pgt_cdc_status,
    pgtrickle.pg_stat_stream_tables, pgtrickle.pg_stat_progress_stream_table TO PUBLIC;

-- Functions over them.
CREATE FUNCTION pgtrickle.explain_refresh_mode(name text)
    RETURNS TABLE (configured_mode text, effective_mode text, downgrade_reason text)
    LANGUAGE sql STABLE
BEGIN ATOMIC
    SELECT refresh_mode, effective_refresh_mode, downgrade_reason
      FROM pgtrickle.pgt_stream_tables
     WHERE pgt_relid = pgtrickle.stream_table(name);
END;

CREATE FUNCTION pgtrickle.pgt_status()
    RETURNS TABLE (name text, status text, refresh_mode text, is_populated boolean, consecutive_errors integer,
                   schedule text, data_timestamp timestamptz, staleness interval)
    LANGUAGE sql STABLE
BEGIN ATOMIC
    SELECT format('%I.%I', pgt_schema, pgt_name), status, refresh_mode, is_populated, consecutive_errors, schedule,
           data_timestamp, now() - data_timestamp
      FROM pgtrickle.pgt_stream_tables
     ORDER BY pgt_id;
END;

CREATE FUNCTION pgtrickle_internal.checked_max_rows(max_rows integer) RETURNS integer
    LANGUAGE c IMMUTABLE STRICT AS 'MODULE_PATHNAME', 'checked_max_rows_wrapper';

CREATE FUNCTION pgtrickle.get_refresh_history(name text, max_rows integer DEFAULT 20)
    RETURNS TABLE (refresh_id bigint, data_timestamp timestamptz, start_time timestamptz, end_time timestamptz, action text,
                   status text, rows_inserted bigint, rows_deleted bigint, duration_ms double precision, error_message text)
    LANGUAGE sql STABLE
BEGIN ATOMIC
    -- An updated row is one deleted and one inserted.
    SELECT h.refresh_id, h.data_timestamp, h.start_time, h.end_time, h.action, h.status, h.rows_inserted + h.rows_updated,
           h.rows_deleted + h.rows_updated, h.duration_ms, h.error_message
      FROM pgtrickle.pgt_refresh_history h
     WHERE h.pgt_relid = pgtrickle.stream_table(name)
     ORDER BY h.refresh_id DESC
     LIMIT pgtrickle_internal.checked_max_rows(max_rows);
END;

CREATE FUNCTION pgtrickle.refresh_timeline(max_rows integer DEFAULT 50)
    RETURNS TABLE (stream_table text, refresh_id bigint, data_timestamp timestamptz, start_time timestamptz,
                   end_time timestamptz, action text, status text, rows_inserted bigint, rows_deleted bigint,
                   duration_ms double precision, error_message text)
    LANGUAGE sql STABLE
BEGIN ATOMIC
    SELECT format('%I.%I', n.nspname, c.relname), h.refresh_id, h.data_timestamp, h.start_time, h.end_time, h.action,
           h.status, h.rows_inserted + h.rows_updated, h.rows_deleted + h.rows_updated, h.duration_ms, h.error_message
      FROM pgtrickle.pgt_refresh_history h
      JOIN pg_catalog.pg_class c ON c.oid = h.pgt_relid
      JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
     ORDER BY h.refresh_id DESC
     LIMIT pgtrickle_internal.checked_max_rows(max_rows);
END;

CREATE FUNCTION pgtrickle.st_refresh_stats()
    RETURNS TABLE (stream_table text, total_refreshes bigint, successful_refreshes bigint, failed_refreshes bigint,
                   rows_inserted bigint, rows_deleted bigint,
                   mean_duration_ms double precision, p50_duration_ms double precision, p95_duration_ms double precision,
                   p99_duration_ms double precision, p50_commit_to_visible_ms double precision,
                   p95_commit_to_visible_ms double precision, p99_commit_to_visible_ms double precision)
    LANGUAGE sql STABLE
BEGIN ATOMIC
    SELECT format('%I.%I', pgt_schema, pgt_name), total_refreshes, successful_refreshes, failed_refreshes,
           total_rows_inserted + total_rows_updated, total_rows_deleted + total_rows_updated,
           avg_duration_ms, p50_duration_ms, p95_duration_ms, p99_duration_ms,
           p50_commit_to_visible_ms, p95_commit_to_visible_ms, p99_commit_to_visible_ms
      FROM pgtrickle.pg_stat_stream_tables
     ORDER BY pgt_id;
END;

CREATE FUNCTION pgtrickle.get_staleness(name text) RETURNS double precision
    LANGUAGE sql STABLE
BEGIN ATOMIC
    SELECT extract(epoch FROM now() - data_timestamp)::double precision
      FROM pgtrickle.pgt_stream_tables
     WHERE pgt_relid = pgtrickle.stream_table(name);
END;

CREATE FUNCTION pgtrickle_internal.refresh_if_older(name text, seconds double precision) RETURNS boolean
    LANGUAGE c STRICT AS 'MODULE_PATHNAME', 'refresh_if_older_wrapper';
CREATE FUNCTION pgtrickle.refresh_if_stale(name text, max_age interval DEFAULT '5 minutes') RETURNS boolean
    LANGUAGE sql
BEGIN ATOMIC
    SELECT pgtrickle_internal.refresh_if_older(name, extract(epoch FROM max_age)::double precision);
END;

CREATE FUNCTION pgtrickle_internal.wait_until_fresh_for(name text, seconds double precision) RETURNS boolean
    LANGUAGE c STRICT AS 'MODULE_PATHNAME', 'wait_until_fresh_for_wrapper';
CREATE FUNCTION pgtrickle.wait_until_fresh(name text, timeout interval DEFAULT '30s') RETURNS boolean
    LANGUAGE sql
BEGIN ATOMIC
    SELECT pgtrickle_internal.wait_until_fresh_for(name, extract(epoch FROM timeout)::double precision);
END;

CREATE FUNCTION pgtrickle.list_sources(name text)
    RETURNS TABLE (source_table text, source_oid oid, source_type text, cdc_mode text, columns_used text[])
    LANGUAGE sql STABLE
BEGIN ATOMIC
    SELECT format('%I.%I', n.nspname, c.relname), d.source_relid, d.source_type, d.cdc_mode, d.columns_used
      FROM pgtrickle.pgt_dependencies d
      JOIN pgtrickle.pgt_stream_tables st USING (pgt_id)
      JOIN pg_catalog.pg_class c ON c.oid = d.source_relid
      JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
     WHERE st.pgt_relid = pgtrickle.stream_table(name)
     ORDER BY 1;
END;

CREATE FUNCTION pgtrickle.change_buffer_sizes()
    RETURNS TABLE (stream_table text, source_table text, source_oid oid, cdc_mode text, pending_rows bigint, buffer_bytes bigint)
    LANGUAGE c STABLE AS 'MODULE_PATHNAME', 'change_buffer_sizes_wrapper';

-- The same as EXPLAIN [ANALYZE] REFRESH MATERIALIZED VIEW and what else is known. With with_analyze it refreshes.
CREATE FUNCTION pgtrickle.explain_st(name text, with_analyze boolean DEFAULT false)
    RETURNS TABLE (property text, value text)
    LANGUAGE c STRICT AS 'MODULE_PATHNAME', 'explain_st_wrapper';

CREATE FUNCTION pgtrickle.validate_query(query text)
    RETURNS TABLE (check_name text, result text, severity text)
    LANGUAGE c STABLE STRICT AS 'MODULE_PATHNAME', 'validate_query_wrapper';

CREATE FUNCTION pgtrickle_internal.has_pending(view oid) RETURNS boolean
    LANGUAGE c STABLE STRICT AS 'MODULE_PATHNAME', 'has_pending_wrapper';

CREATE VIEW pgtrickle.stream_tables_info AS
    SELECT st.*,
           pg_catalog.now() - st.data_timestamp AS staleness,
           pgtrickle_internal.has_pending(st.pgt_relid) AS stale
      FROM pgtrickle.pgt_stream_tables st;
COMMENT ON VIEW pgtrickle.stream_tables_info IS 'every stream table, how old its data are and whether there is anything newer';

CREATE FUNCTION pgtrickle_internal.scheduler_running() RETURNS boolean
    LANGUAGE c VOLATILE AS 'MODULE_PATHNAME', 'scheduler_running_wrapper';

-- Where processes have run out; no row: there is room for all.
CREATE FUNCTION pgtrickle_internal.rotation() RETURNS TABLE (waiting timestamptz, databases integer, places integer)
    LANGUAGE c VOLATILE AS 'MODULE_PATHNAME', 'rotation_wrapper';

CREATE VIEW pgtrickle.quick_health AS
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
COMMENT ON VIEW pgtrickle.quick_health IS 'one row: is anything wrong?';

GRANT SELECT ON pgtrickle.stream_tables_info, pgtrickle.quick_health TO PUBLIC;

-- Triggers are internal (\d does not show them): a source without its triggers would be one whose changes are lost.
CREATE FUNCTION pgtrickle.trigger_inventory()
    RETURNS TABLE (source_table text, source_oid oid, trigger_name text, trigger_type text, present boolean, enabled boolean)
    LANGUAGE sql STABLE
BEGIN ATOMIC
    SELECT DISTINCT format('%I.%I', n.nspname, c.relname), c.oid, t.tgname::text, s.trigger_level, t.oid IS NOT NULL,
           coalesce(t.tgenabled = 'A', false)
      FROM pgtrickle.pgt_cdc_status s
      JOIN pg_catalog.pg_class c ON c.oid = ANY (s.tables) AND c.relkind <> 'm'
      JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
      LEFT JOIN pg_catalog.pg_trigger t ON t.tgrelid = c.oid AND t.tgfoid = 'pgtrickle_internal.capture'::regproc
     ORDER BY 1, 3;
END;

-- What every stream table reads, drawn as a tree.
CREATE FUNCTION pgtrickle_internal.dependency_lines()
    RETURNS TABLE (line integer, tree_line text, node text, relid oid, depth integer)
    LANGUAGE c STABLE AS 'MODULE_PATHNAME', 'dependency_lines_wrapper';
CREATE FUNCTION pgtrickle.dependency_tree()
    RETURNS TABLE (tree_line text, node text, node_type text, depth integer, status text, refresh_mode text)
    LANGUAGE sql STABLE
BEGIN ATOMIC
    SELECT l.tree_line, l.node,
           CASE WHEN st.pgt_relid IS NOT NULL THEN 'STREAM_TABLE'
                ELSE coalesce((SELECT d.source_type FROM pgtrickle.pgt_dependencies d WHERE d.source_relid = l.relid LIMIT 1),
                              'OTHER') END,
           l.depth, st.status, st.refresh_mode
      FROM pgtrickle_internal.dependency_lines() l
      LEFT JOIN pgtrickle.pgt_stream_tables st ON st.pgt_relid = l.relid
     ORDER BY l.line;
END;

-- The change buffer of a source should not become larger than the source: reading it would cost more than a recompute.
CREATE FUNCTION pgtrickle_internal.buffer_limit(source_bytes bigint) RETURNS bigint
    LANGUAGE c IMMUTABLE STRICT AS 'MODULE_PATHNAME', 'buffer_limit_wrapper';

CREATE FUNCTION pgtrickle.check_cdc_health()
    RETURNS TABLE (source_table text, source_oid oid, cdc_mode text, trigger_level text, stream_tables bigint,
                   triggers_missing bigint, triggers_disabled bigint, buffer_bytes bigint, source_bytes bigint, alert text)
    LANGUAGE sql STABLE
BEGIN ATOMIC
    SELECT format('%I.%I', s.source_schema, s.source_name), s.source_relid, s.cdc_mode, s.trigger_level, s.stream_tables,
           t.missing, t.disabled, s.buffer_bytes, b.bytes,
           CASE WHEN t.missing > 0 THEN 'TRIGGERS_MISSING'
                WHEN t.disabled > 0 THEN 'TRIGGERS_DISABLED'
                WHEN s.buffer_bytes > pgtrickle_internal.buffer_limit(b.bytes) THEN 'BUFFER_GROWTH' END
      FROM pgtrickle.pgt_cdc_status s
     CROSS JOIN LATERAL (
           SELECT count(*) FILTER (WHERE present.oid IS NULL) AS missing,
                  count(*) FILTER (WHERE present.tgenabled <> 'A') AS disabled
             FROM pg_catalog.pg_class c
             -- Kinds of triggers by their pg_trigger.tgtype. What a stream table has to tell is written by its refresh.
             JOIN (VALUES ('STATEMENT', 'r', 4), ('STATEMENT', 'r', 8), ('STATEMENT', 'r', 16), ('STATEMENT', 'r', 32),
                          ('ROW', 'r', 29), ('ROW', 'r', 32), ('ROW', 'p', 32)) AS wanted (level, relkind, tgtype)
               ON wanted.level = s.trigger_level AND wanted.relkind = c.relkind::text
             LEFT JOIN pg_catalog.pg_trigger present
               ON present.tgrelid = c.oid AND present.tgtype = wanted.tgtype
              AND present.tgfoid = 'pgtrickle_internal.capture'::regproc
            WHERE c.oid = ANY (s.tables)) t
     CROSS JOIN LATERAL (
           SELECT coalesce(sum(pg_catalog.pg_table_size(member)), 0)::bigint AS bytes FROM unnest(s.tables) AS member) b
     ORDER BY 1;
END;

-- What the scheduler does by itself. It locks the tables it repairs against writers, so it is not for everybody.
CREATE FUNCTION pgtrickle.repair_capture() RETURNS integer
    LANGUAGE c AS 'MODULE_PATHNAME', 'repair_capture_wrapper';
REVOKE EXECUTE ON FUNCTION pgtrickle.repair_capture() FROM PUBLIC;
COMMENT ON FUNCTION pgtrickle.repair_capture() IS 'puts capture triggers in order; how many tables may have lost changes';

CREATE FUNCTION pgtrickle_internal.paused_since() RETURNS timestamptz
    LANGUAGE c STABLE AS 'MODULE_PATHNAME', 'paused_since_wrapper';
CREATE FUNCTION pgtrickle_internal.overdue_since() RETURNS timestamptz
    LANGUAGE c VOLATILE AS 'MODULE_PATHNAME', 'overdue_since_wrapper';

-- Whether the library and these objects fit, and what each of them is.
CREATE FUNCTION pgtrickle_internal.versions() RETURNS TABLE (fits boolean, detail text)
    LANGUAGE c STABLE AS 'MODULE_PATHNAME', 'versions_wrapper';

CREATE FUNCTION pgtrickle.health_check() RETURNS TABLE (check_name text, severity text, detail text)
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
