/* Catalog, functions and views of pg_trickle. */
\echo Use "CREATE EXTENSION pg_trickle" to load this file. \quit

CREATE SCHEMA pgtrickle;
COMMENT ON SCHEMA pgtrickle IS
    'stream tables: functions and views of extension pg_trickle, which makes and changes them; schema migration tools should leave this schema out';
GRANT USAGE ON SCHEMA pgtrickle TO PUBLIC;

-- What the extension remembers. Nobody but its owner may look inside; the views in schema pgtrickle show what there is to see.
CREATE SCHEMA pgtrickle_internal;
COMMENT ON SCHEMA pgtrickle_internal IS
    'internal state of extension pg_trickle, which makes, changes and drops tables here at any time; schema migration tools should leave this schema out';
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
    created_at         timestamptz NOT NULL,
    updated_at         timestamptz, -- of this row
    -- Since stats_reset, or creation. A refresh that replaces the row anyway counts itself.
    refreshes          bigint           NOT NULL DEFAULT 0, -- that did something
    recomputes         bigint           NOT NULL DEFAULT 0, -- of them, those that computed the whole contents
    failures           bigint           NOT NULL DEFAULT 0,
    rows_inserted      bigint           NOT NULL DEFAULT 0,
    rows_updated       bigint           NOT NULL DEFAULT 0,
    rows_deleted       bigint           NOT NULL DEFAULT 0,
    total_ms           double precision NOT NULL DEFAULT 0,
    max_ms             double precision,
    stats_reset        timestamptz,
    class_xmin         xid,  -- of the view's row in pg_class, after the last refresh
    clock              bytea -- values of what depends on the clock, after the last refresh
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

-- State tables of stateful blocks, and the output of blocks below the top of a view.
CREATE TABLE pgtrickle_internal.state (
    view      oid      NOT NULL,
    block     smallint NOT NULL,
    relid     oid      NOT NULL,
    format    smallint NOT NULL, -- of its columns and values
    is_output boolean  NOT NULL,
    PRIMARY KEY (view, block, is_output)
);

-- The expression under the index of a view without a (short) key: equal images, equal hashes.
CREATE FUNCTION pgtrickle.row_image_hash(VARIADIC "any") RETURNS bigint
    LANGUAGE c IMMUTABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'row_image_hash';
COMMENT ON FUNCTION pgtrickle.row_image_hash("any") IS 'hash of a row''s values as stored';

-- What refreshes did. Those who may refresh a view see its rows, in the view below.
CREATE TABLE pgtrickle_internal.refresh_history (
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
    sqlstate       text, -- of a failure
    PRIMARY KEY (pgt_relid, refresh_id)
);
CREATE INDEX refresh_history_refresh_id ON pgtrickle_internal.refresh_history (refresh_id);
REVOKE ALL ON pgtrickle_internal.refresh_history FROM PUBLIC;
CREATE SEQUENCE pgtrickle_internal.refresh_id;

-- Who may read or write all tables of a database (pg_read_all_data, pg_write_all_data) may not these: they hold copies of rows
-- that row security hides, and the library relies on what they say.
ALTER TABLE pgtrickle_internal.installation ENABLE ROW LEVEL SECURITY;
ALTER TABLE pgtrickle_internal.stream_table ENABLE ROW LEVEL SECURITY;
ALTER TABLE pgtrickle_internal.reinit ENABLE ROW LEVEL SECURITY;
ALTER TABLE pgtrickle_internal.moved ENABLE ROW LEVEL SECURITY;
ALTER TABLE pgtrickle_internal.source ENABLE ROW LEVEL SECURITY;
ALTER TABLE pgtrickle_internal.dependency ENABLE ROW LEVEL SECURITY;
ALTER TABLE pgtrickle_internal.paused ENABLE ROW LEVEL SECURITY;
ALTER TABLE pgtrickle_internal.state ENABLE ROW LEVEL SECURITY;
ALTER TABLE pgtrickle_internal.refresh_history ENABLE ROW LEVEL SECURITY;

-- Messages of failures may quote data: they are shown to those who may refresh the view themselves.
CREATE VIEW pgtrickle.pgt_refresh_history WITH (security_barrier) AS
    SELECT h.pgt_relid,
           h.refresh_id,
           h.data_timestamp,
           h.start_time,
           h.end_time,
           h.action,
           h.status,
           h.initiated_by,
           h.rows_inserted,
           h.rows_updated,
           h.rows_deleted,
           h.duration_ms,
           h.error_message,
           h.commit_to_visible_ms,
           h.reason,
           h.sqlstate,
           (SELECT st.id FROM pgtrickle_internal.stream_table st WHERE st.relid = h.pgt_relid) AS pgt_id
      FROM pgtrickle_internal.refresh_history h
     WHERE pg_catalog.has_table_privilege(h.pgt_relid, 'MAINTAIN');
COMMENT ON VIEW pgtrickle.pgt_refresh_history IS 'refreshes that did something or failed, of stream tables that one may refresh';
GRANT SELECT ON pgtrickle.pgt_refresh_history TO PUBLIC;
-- The latest first, for functions that show so many: what is outside a barrier cannot have an index used for its order.
CREATE VIEW pgtrickle_internal.latest_refreshes WITH (security_barrier) AS
    SELECT h.* FROM pgtrickle_internal.refresh_history h
     WHERE pg_catalog.has_table_privilege(h.pgt_relid, 'MAINTAIN')
     ORDER BY h.refresh_id DESC;
GRANT SELECT ON pgtrickle_internal.latest_refreshes TO PUBLIC;

-- Creating, changing, refreshing and dropping: each runs the statement of the same meaning with the caller's rights.
CREATE FUNCTION pgtrickle.create_stream_table(
        name text, query text, schedule text DEFAULT 'calculated', refresh_mode text DEFAULT 'AUTO',
        initialize boolean DEFAULT true, cdc_mode text DEFAULT NULL, diamond_consistency text DEFAULT NULL,
        diamond_schedule_policy text DEFAULT NULL, append_only boolean DEFAULT NULL) RETURNS void
    LANGUAGE c AS 'MODULE_PATHNAME', 'new_stream_table_wrapper';
CREATE FUNCTION pgtrickle.create_stream_table_if_not_exists(
        name text, query text, schedule text DEFAULT 'calculated', refresh_mode text DEFAULT 'AUTO',
        initialize boolean DEFAULT true, cdc_mode text DEFAULT NULL, diamond_consistency text DEFAULT NULL,
        diamond_schedule_policy text DEFAULT NULL, append_only boolean DEFAULT NULL) RETURNS void
    LANGUAGE c AS 'MODULE_PATHNAME', 'new_stream_table_if_not_exists_wrapper';
CREATE FUNCTION pgtrickle.create_or_replace_stream_table(
        name text, query text, schedule text DEFAULT 'calculated', refresh_mode text DEFAULT 'AUTO',
        initialize boolean DEFAULT true, cdc_mode text DEFAULT NULL, diamond_consistency text DEFAULT NULL,
        diamond_schedule_policy text DEFAULT NULL, append_only boolean DEFAULT NULL) RETURNS void
    LANGUAGE c AS 'MODULE_PATHNAME', 'new_or_replaced_stream_table_wrapper';
CREATE FUNCTION pgtrickle.alter_stream_table(
        name text, query text DEFAULT NULL, schedule text DEFAULT NULL, refresh_mode text DEFAULT NULL,
        status text DEFAULT NULL, cdc_mode text DEFAULT NULL, diamond_consistency text DEFAULT NULL,
        diamond_schedule_policy text DEFAULT NULL, append_only boolean DEFAULT NULL) RETURNS void
    LANGUAGE c AS 'MODULE_PATHNAME', 'changed_stream_table_wrapper';
CREATE FUNCTION pgtrickle.drop_stream_table(name text, cascade boolean DEFAULT false) RETURNS void
    LANGUAGE c AS 'MODULE_PATHNAME', 'drop_stream_table_wrapper';
CREATE FUNCTION pgtrickle.refresh_stream_table(name text) RETURNS void
    LANGUAGE c AS 'MODULE_PATHNAME', 'refresh_stream_table_wrapper';
-- Many at once; how many.
CREATE FUNCTION pgtrickle.bulk_create(definitions jsonb) RETURNS integer
    LANGUAGE c AS 'MODULE_PATHNAME', 'bulk_create_wrapper';
CREATE FUNCTION pgtrickle.bulk_drop_stream_tables(names text[]) RETURNS integer
    LANGUAGE c AS 'MODULE_PATHNAME', 'bulk_drop_stream_tables_wrapper';
-- Capture of what it reads is put in order, and its contents are computed anew; for its owner.
CREATE FUNCTION pgtrickle.repair_stream_table(name text) RETURNS text
    LANGUAGE c AS 'MODULE_PATHNAME', 'repair_stream_table_wrapper';
CREATE FUNCTION pgtrickle.resume_stream_table(name text) RETURNS void
    LANGUAGE c AS 'MODULE_PATHNAME', 'resume_stream_table_wrapper';
-- For the whole database, so not for everybody.
CREATE FUNCTION pgtrickle.pause_all() RETURNS void
    LANGUAGE c AS 'MODULE_PATHNAME', 'pause_all_wrapper';
CREATE FUNCTION pgtrickle.resume_all() RETURNS void
    LANGUAGE c AS 'MODULE_PATHNAME', 'resume_all_wrapper';
REVOKE EXECUTE ON FUNCTION pgtrickle.pause_all(), pgtrickle.resume_all() FROM PUBLIC;
-- Counters of one stream table, or of all, begin anew. As for the server's own statistics, others have to be granted it.
CREATE FUNCTION pgtrickle.reset_stats(name text DEFAULT NULL) RETURNS void
    LANGUAGE c AS 'MODULE_PATHNAME', 'reset_stats_wrapper';
REVOKE EXECUTE ON FUNCTION pgtrickle.reset_stats(text) FROM PUBLIC;
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
           q.text AS defining_query,
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
           st.relid IN (SELECT r.view FROM pgtrickle_internal.reinit r) AS needs_reinit,
           st.created_at,
           st.downgrade_reason,
           -- Looked for if there is anything to wait for.
           CASE WHEN EXISTS (SELECT FROM pgtrickle_internal.stream_table u WHERE u.status <> 'ACTIVE') THEN (
                WITH RECURSIVE above AS (
                    SELECT d.source FROM pgtrickle_internal.dependency d WHERE d.view = st.relid
                    UNION SELECT d.source FROM above JOIN pgtrickle_internal.dependency d ON d.view = above.source)
                SELECT pg_catalog.array_agg(format('%I.%I', un.nspname, uc.relname) ORDER BY u.id)
                  FROM above
                  JOIN pgtrickle_internal.stream_table u ON u.relid = above.source AND u.status <> 'ACTIVE'
                  JOIN pg_catalog.pg_class uc ON uc.oid = u.relid
                  JOIN pg_catalog.pg_namespace un ON un.oid = uc.relnamespace) END AS waits_for,
           q.text AS original_query,
           coalesce(st.updated_at, st.created_at) AS updated_at
      FROM pgtrickle_internal.stream_table st
      JOIN pg_catalog.pg_class c ON c.oid = st.relid
      JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
     -- Once for both columns, and not at all for neither.
     CROSS JOIN LATERAL (SELECT pg_catalog.pg_get_viewdef(st.relid) AS text OFFSET 0) q
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
      LEFT JOIN pgtrickle_internal.source s ON s.relid = d.source
     UNION ALL
    -- Plain views between. What they read stands above.
    (WITH RECURSIVE named (pgt_id, reader, view) AS (
        SELECT st.id, st.relid, st.relid FROM pgtrickle_internal.stream_table st
         UNION
        SELECT n.pgt_id, n.view, c.oid
          FROM named n
          JOIN pg_catalog.pg_rewrite r ON r.ev_class = n.view
          JOIN pg_catalog.pg_depend d ON d.classid = 'pg_catalog.pg_rewrite'::regclass AND d.objid = r.oid
                                     AND d.refclassid = 'pg_catalog.pg_class'::regclass
          JOIN pg_catalog.pg_class c ON c.oid = d.refobjid AND c.relkind = 'v')
    SELECT n.pgt_id,
           n.view,
           'VIEW',
           ARRAY(SELECT a.attname FROM pg_catalog.pg_attribute a
                  WHERE a.attrelid = n.view AND EXISTS (
                        SELECT FROM named m
                          JOIN pg_catalog.pg_rewrite r ON r.ev_class = m.reader
                          JOIN pg_catalog.pg_depend d ON d.classid = 'pg_catalog.pg_rewrite'::regclass AND d.objid = r.oid
                                                     AND d.refclassid = 'pg_catalog.pg_class'::regclass
                         WHERE m.pgt_id = n.pgt_id AND m.view = n.view AND d.refobjid = n.view AND d.refobjsubid = a.attnum)
                  ORDER BY a.attnum)::text[],
           'none'
      FROM named n
      JOIN pg_catalog.pg_class c ON c.oid = n.view AND c.relkind = 'v'
     GROUP BY n.pgt_id, n.view);
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

-- Every stream table: the time of a commit that it does not show, or an earlier one; whether that has been so for longer than
-- its schedule lets it; refreshes that had nothing to do, since the server started. Tolerant: nothing, instead of an error, when
-- these objects do not fit the library.
CREATE FUNCTION pgtrickle_internal.freshness(tolerant boolean DEFAULT false)
    RETURNS TABLE (view oid, pending_since timestamptz, stale boolean, noops bigint)
    LANGUAGE c STABLE STRICT AS 'MODULE_PATHNAME', 'freshness_wrapper';

CREATE VIEW pgtrickle.pg_stat_stream_tables AS
    SELECT st.pgt_id,
           st.pgt_schema,
           st.pgt_name,
           st.status,
           st.refresh_mode,
           st.is_populated,
           st.data_timestamp,
           pg_catalog.now() - st.data_timestamp AS staleness,
           s.refreshes + s.failures AS total_refreshes,
           s.refreshes AS successful_refreshes,
           s.failures AS failed_refreshes,
           s.rows_inserted AS total_rows_inserted,
           s.rows_updated AS total_rows_updated,
           s.rows_deleted AS total_rows_deleted,
           s.total_ms / nullif(s.refreshes, 0) AS avg_duration_ms,
           h.duration[1] AS p50_duration_ms,
           h.duration[2] AS p95_duration_ms,
           h.duration[3] AS p99_duration_ms,
           h.commit_to_visible[1] AS p50_commit_to_visible_ms,
           h.commit_to_visible[2] AS p95_commit_to_visible_ms,
           h.commit_to_visible[3] AS p99_commit_to_visible_ms,
           st.pgt_relid,
           f.stale,
           f.pending_since,
           CASE WHEN f.pending_since IS NOT NULL
                THEN greatest(pg_catalog.now() - f.pending_since, interval '0') END AS lag,
           st.last_refresh_at,
           st.schedule,
           st.consecutive_errors,
           st.needs_reinit,
           h.last_action,
           h.last_status,
           coalesce(c.modes, '{}') AS cdc_modes,
           s.refreshes,
           f.noops,
           s.recomputes,
           s.failures,
           s.rows_inserted,
           s.rows_updated,
           s.rows_deleted,
           s.total_ms,
           s.max_ms,
           s.stats_reset
      FROM pgtrickle.pgt_stream_tables st
      JOIN pgtrickle_internal.stream_table s ON s.relid = st.pgt_relid
      LEFT JOIN pgtrickle_internal.freshness(true) f ON f.view = st.pgt_relid
      LEFT JOIN (SELECT d.view, array_agg(DISTINCT CASE WHEN v.captured AND d.capturable THEN coalesce(u.cdc, 'none') ELSE 'none' END) AS modes
                   FROM pgtrickle_internal.dependency d
                   JOIN pgtrickle_internal.stream_table v ON v.relid = d.view
                   LEFT JOIN pgtrickle_internal.source u ON u.relid = d.source
                  GROUP BY d.view) c ON c.view = st.pgt_relid
     CROSS JOIN LATERAL (
           SELECT (array_agg(action))[1] AS last_action,
                  (array_agg(status))[1] AS last_status,
                  percentile_cont(ARRAY[0.5, 0.95, 0.99]) WITHIN GROUP (ORDER BY duration_ms)
                      FILTER (WHERE status = 'COMPLETED') AS duration,
                  -- Of scheduled refreshes; an aggregate of this kind leaves nulls out.
                  percentile_cont(ARRAY[0.5, 0.95, 0.99]) WITHIN GROUP (ORDER BY commit_to_visible_ms) AS commit_to_visible
             FROM (SELECT * FROM pgtrickle_internal.refresh_history l WHERE l.pgt_relid = st.pgt_relid
                    ORDER BY l.refresh_id DESC LIMIT 100) last) h;
COMMENT ON VIEW pgtrickle.pg_stat_stream_tables IS
    'every stream table: refreshes since stats_reset, percentiles of its last 100, how far it is behind';

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
      FROM pgtrickle_internal.latest_refreshes h
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
      -- So many first: by the index on refresh_id.
      FROM (SELECT * FROM pgtrickle_internal.latest_refreshes
             ORDER BY refresh_id DESC LIMIT pgtrickle_internal.checked_max_rows(max_rows)) h
      JOIN pg_catalog.pg_class c ON c.oid = h.pgt_relid
      JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
     ORDER BY h.refresh_id DESC;
END;

CREATE FUNCTION pgtrickle.st_refresh_stats()
    RETURNS TABLE (stream_table text, total_refreshes bigint, successful_refreshes bigint, failed_refreshes bigint,
                   rows_inserted bigint, rows_deleted bigint,
                   mean_duration_ms double precision, p50_duration_ms double precision, p95_duration_ms double precision,
                   p99_duration_ms double precision, p50_commit_to_visible_ms double precision,
                   p95_commit_to_visible_ms double precision, p99_commit_to_visible_ms double precision,
                   pgt_name text, pgt_schema text, status text, refresh_mode text, is_populated boolean,
                   last_refresh_action text, last_refresh_status text, last_refresh_at timestamptz,
                   staleness_secs double precision, stale boolean)
    LANGUAGE sql STABLE
BEGIN ATOMIC
    SELECT format('%I.%I', st.pgt_schema, st.pgt_name), st.total_refreshes, st.successful_refreshes, st.failed_refreshes,
           st.total_rows_inserted + st.total_rows_updated, st.total_rows_deleted + st.total_rows_updated,
           st.avg_duration_ms, st.p50_duration_ms, st.p95_duration_ms, st.p99_duration_ms,
           st.p50_commit_to_visible_ms, st.p95_commit_to_visible_ms, st.p99_commit_to_visible_ms,
           st.pgt_name::text, st.pgt_schema::text, st.status, st.refresh_mode, st.is_populated, st.last_action, st.last_status,
           st.last_refresh_at, extract(epoch FROM st.staleness)::double precision, st.stale
      FROM pgtrickle.pg_stat_stream_tables st
     ORDER BY st.pgt_id;
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
     WHERE st.pgt_relid = pgtrickle.stream_table(name) AND d.source_type <> 'VIEW'
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

CREATE VIEW pgtrickle.stream_tables_info AS
    SELECT st.pgt_id,
           st.pgt_relid,
           st.pgt_name,
           st.pgt_schema,
           st.defining_query,
           st.schedule,
           st.refresh_mode,
           st.effective_refresh_mode,
           st.status,
           st.is_populated,
           st.data_timestamp,
           st.frontier,
           st.last_refresh_at,
           st.consecutive_errors,
           st.last_error_message,
           st.last_error_at,
           st.needs_reinit,
           st.created_at,
           st.downgrade_reason,
           st.waits_for,
           pg_catalog.now() - st.data_timestamp AS staleness,
           f.stale,
           st.original_query,
           st.updated_at,
           f.pending_since,
           CASE WHEN f.pending_since IS NOT NULL
                THEN greatest(pg_catalog.now() - f.pending_since, interval '0') END AS lag
      FROM pgtrickle.pgt_stream_tables st
      LEFT JOIN pgtrickle_internal.freshness() f ON f.view = st.pgt_relid;
COMMENT ON VIEW pgtrickle.stream_tables_info IS 'every stream table, how old its data are, and whether and for how long there has been anything newer';

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
                ELSE CASE c.relkind WHEN 'r' THEN 'TABLE' WHEN 'p' THEN 'PARTITIONED_TABLE' WHEN 'm' THEN 'MATERIALIZED_VIEW'
                                    WHEN 'f' THEN 'FOREIGN_TABLE' ELSE 'OTHER' END END,
           l.depth, st.status, st.refresh_mode
      FROM pgtrickle_internal.dependency_lines() l
      LEFT JOIN pg_catalog.pg_class c ON c.oid = l.relid
      LEFT JOIN pgtrickle.pgt_stream_tables st ON st.pgt_relid = l.relid
     ORDER BY l.line;
END;

-- The change buffer of a source should not become larger than the source: reading it would cost more than a recompute.
CREATE FUNCTION pgtrickle_internal.buffer_limit(source_bytes bigint) RETURNS bigint
    LANGUAGE c IMMUTABLE STRICT AS 'MODULE_PATHNAME', 'buffer_limit_wrapper';

CREATE FUNCTION pgtrickle.check_cdc_health()
    RETURNS TABLE (source_table text, source_oid oid, cdc_mode text, trigger_level text, stream_tables bigint,
                   triggers_missing bigint, triggers_disabled bigint, buffer_bytes bigint, source_bytes bigint, alert text, source_relid oid,
                   slot_name text, lag_bytes bigint)
    LANGUAGE sql STABLE
BEGIN ATOMIC
    SELECT format('%I.%I', s.source_schema, s.source_name), s.source_relid, s.cdc_mode, s.trigger_level, s.stream_tables,
           t.missing, t.disabled, s.buffer_bytes, b.bytes,
           CASE WHEN t.missing > 0 THEN 'TRIGGERS_MISSING'
                WHEN t.disabled > 0 THEN 'TRIGGERS_DISABLED'
                WHEN s.buffer_bytes > pgtrickle_internal.buffer_limit(b.bytes) THEN 'BUFFER_GROWTH' END,
           -- Triggers need no replication slot.
           s.source_relid, NULL::text, NULL::bigint
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
        SELECT format('%I.%I', pgt_schema, pgt_name) AS name, status, consecutive_errors, waits_for, f.stale
          FROM pgtrickle.pgt_stream_tables
          LEFT JOIN pgtrickle_internal.freshness(true) f ON f.view = pgt_relid
         ORDER BY pgt_id
    ), named AS (
        SELECT count(*) AS total,
               string_agg(name, ', ') FILTER (WHERE status = 'ERROR') AS failed,
               string_agg(name, ', ') FILTER (WHERE status = 'ACTIVE' AND consecutive_errors > 0) AS failing,
               string_agg(name, ', ') FILTER (WHERE status = 'SUSPENDED') AS suspended,
               string_agg(name, ', ') FILTER (WHERE status = 'INITIALIZING') AS empty,
               string_agg(name, ', ') FILTER (WHERE stale AND status <> 'INITIALIZING') AS stale,
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
    UNION ALL SELECT 'stale stream tables', CASE WHEN stale IS NULL THEN 'OK' ELSE 'WARNING' END, coalesce(stale, 'none') FROM named
    UNION ALL SELECT 'waiting stream tables', CASE WHEN waiting IS NULL THEN 'OK' ELSE 'WARNING' END, coalesce(waiting, 'none') FROM named
    UNION ALL SELECT 'capture', CASE WHEN uncaptured IS NULL THEN 'OK' ELSE 'ERROR' END,
           coalesce('triggers missing or disabled: ' || uncaptured, 'complete') FROM capture
    UNION ALL SELECT 'change buffers', CASE WHEN grown IS NULL THEN 'OK' ELSE 'WARNING' END,
           coalesce('larger than their tables: ' || grown, 'small') FROM capture;
END;

-- Statements that make a stream table again as it is. Names are qualified whatever the caller's search_path is.
CREATE FUNCTION pgtrickle_internal.definition(view regclass) RETURNS text
    LANGUAGE sql STABLE STRICT SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
    WITH v AS (
        SELECT c.*, format('%I.%I', n.nspname, c.relname) AS name,
               -- Some of its owner's privileges were revoked.
               c.relacl IS NOT NULL AND EXISTS (
                   SELECT privilege_type FROM aclexplode(acldefault('r', c.relowner)) WHERE grantee = c.relowner
                   EXCEPT SELECT privilege_type FROM aclexplode(c.relacl) WHERE grantee = c.relowner) AS deprived
          FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = view
    ), options AS (
        SELECT string_agg(option, ', ' ORDER BY place, number) AS list
          FROM (SELECT 1, number, format('%I=%L', option_name, option_value)
                  FROM v, ROWS FROM (pg_options_to_table(v.reloptions)) WITH ORDINALITY AS o (option_name, option_value, number)
                 UNION ALL
                SELECT 2, number, format('toast.%I=%L', option_name, option_value)
                  FROM v JOIN pg_class t ON t.oid = v.reltoastrelid,
                       ROWS FROM (pg_options_to_table(t.reloptions)) WITH ORDINALITY AS o (option_name, option_value, number)
               ) o (place, number, option)
    ), index AS (
        -- Without those that the extension makes by itself, as the view is populated.
        SELECT i.*, format('%I.%I', n.nspname, c.relname) AS name, c.relname, c.reltablespace
          FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_namespace n ON n.oid = c.relnamespace
         WHERE i.indrelid = view AND i.indisvalid AND NOT EXISTS (
               SELECT FROM pg_depend d JOIN pg_extension e ON e.oid = d.refobjid AND e.extname = 'pg_trickle'
                WHERE d.classid = 'pg_class'::regclass AND d.objid = i.indexrelid
                  AND d.refclassid = 'pg_extension'::regclass AND d.deptype = 'x')
    ), statistics AS (
        SELECT s.*, format('%I.%I', n.nspname, s.stxname) AS name
          FROM pg_statistic_ext s JOIN pg_namespace n ON n.oid = s.stxnamespace WHERE s.stxrelid = view
    ), attribute AS (
        SELECT a.*, t.typstorage
          FROM pg_attribute a JOIN pg_type t ON t.oid = a.atttypid
         WHERE a.attrelid = view AND a.attnum > 0 AND NOT a.attisdropped
    ), acl (attnum, "column", grantee, grantable, privileges) AS (
        SELECT attnum, "column", grantee, is_grantable, string_agg(privilege_type || "column", ', ' ORDER BY privilege_type)
          FROM (SELECT 0, '', e.* FROM v, aclexplode(v.relacl) e
                 UNION ALL
                SELECT a.attnum, format(' (%I)', a.attname), e.* FROM attribute a, aclexplode(a.attacl) e
               ) e (attnum, "column", grantor, grantee, privilege_type, is_grantable)
         GROUP BY attnum, "column", grantee, is_grantable
    ), part (place, number, detail, statement) AS (
        SELECT 1, 0, '', format(E'CREATE MATERIALIZED VIEW %s%s%s%s AS\n%s\n  WITH NO DATA;', v.name,
                   CASE WHEN am.amname <> 'heap' THEN format(' USING %I', am.amname) END,
                   ' WITH (' || options.list || ')',
                   CASE WHEN s.oid IS NOT NULL THEN format(' TABLESPACE %I', s.spcname) END,
                   rtrim(pg_get_viewdef(view), ';'))
          FROM options, v JOIN pg_am am ON am.oid = v.relam LEFT JOIN pg_tablespace s ON s.oid = v.reltablespace
         UNION ALL
        -- Before anything that evaluates an expression of the owner's, such as that of an index.
        SELECT 1, 1, '', format('ALTER MATERIALIZED VIEW %s OWNER TO %I;', name, pg_get_userbyid(relowner)) FROM v
         UNION ALL
        SELECT 2, attnum, setting, format('ALTER MATERIALIZED VIEW %s ALTER COLUMN %I SET %s;', v.name, attname, setting)
          FROM v, attribute,
               LATERAL (VALUES ('STATISTICS ' || attstattarget),
                               ('STORAGE ' || CASE WHEN attstorage <> typstorage THEN
                                    CASE attstorage WHEN 'p' THEN 'PLAIN' WHEN 'e' THEN 'EXTERNAL' WHEN 'm' THEN 'MAIN' ELSE 'EXTENDED' END END),
                               ('COMPRESSION ' || CASE attcompression WHEN 'p' THEN 'pglz' WHEN 'l' THEN 'lz4' END),
                               ('(' || (SELECT string_agg(format('%I=%L', option_name, option_value), ', ')
                                          FROM pg_options_to_table(attoptions)) || ')')) s (setting)
         WHERE setting IS NOT NULL
         UNION ALL
        SELECT 3, indexrelid::bigint, '', pg_get_indexdef(indexrelid) || ';' FROM index
         UNION ALL
        SELECT 4, indexrelid::bigint, '', format('ALTER INDEX %s SET TABLESPACE %I;', index.name, s.spcname)
          FROM index JOIN pg_tablespace s ON s.oid = index.reltablespace
         UNION ALL
        SELECT 5, indexrelid::bigint, a.attnum::text,
               format('ALTER INDEX %s ALTER COLUMN %s SET STATISTICS %s;', index.name, a.attnum, a.attstattarget)
          FROM index JOIN pg_attribute a ON a.attrelid = index.indexrelid AND a.attstattarget IS NOT NULL
         UNION ALL
        SELECT 6, 0, '', format('ALTER MATERIALIZED VIEW %s CLUSTER ON %I;', v.name, index.relname) FROM v, index WHERE indisclustered
         UNION ALL
        SELECT 7, oid::bigint, '', pg_get_statisticsobjdef(oid) || ';' FROM statistics
         UNION ALL
        SELECT 8, 0, '', format('COMMENT ON MATERIALIZED VIEW %s IS %L;', v.name, obj_description(view, 'pg_class'))
          FROM v WHERE obj_description(view, 'pg_class') IS NOT NULL
         UNION ALL
        SELECT 9, attnum, '', format('COMMENT ON COLUMN %s.%I IS %L;', v.name, attname, col_description(view, attnum))
          FROM v, attribute WHERE col_description(view, attnum) IS NOT NULL
         UNION ALL
        SELECT 10, indexrelid::bigint, '', format('COMMENT ON INDEX %s IS %L;', name, obj_description(indexrelid, 'pg_class'))
          FROM index WHERE obj_description(indexrelid, 'pg_class') IS NOT NULL
         UNION ALL
        SELECT 11, oid::bigint, '', format('COMMENT ON STATISTICS %s IS %L;', name, obj_description(oid, 'pg_statistic_ext'))
          FROM statistics WHERE obj_description(oid, 'pg_statistic_ext') IS NOT NULL
         UNION ALL
        SELECT 12, oid::bigint, '', format('ALTER STATISTICS %s OWNER TO %I;', name, pg_get_userbyid(stxowner)) FROM statistics
         UNION ALL
        SELECT 14, 0, '', format('REVOKE ALL ON %s FROM %I;', name, pg_get_userbyid(relowner)) FROM v WHERE deprived
         UNION ALL
        SELECT 15, acl.attnum, grantee::text || grantable, format('GRANT %s ON %s TO %s%s;', privileges, v.name,
                   CASE grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(grantee)) END,
                   CASE WHEN grantable THEN ' WITH GRANT OPTION' END)
          FROM v, acl WHERE v.deprived OR acl.attnum > 0 OR acl.grantee <> v.relowner
         UNION ALL
        SELECT 16, objsubid, provider,
               format('SECURITY LABEL FOR %I ON %s IS %L;', provider,
                      CASE objsubid WHEN 0 THEN 'MATERIALIZED VIEW ' || v.name
                                    ELSE format('COLUMN %s.%I', v.name, (SELECT attname FROM attribute WHERE attnum = objsubid)) END,
                      label)
          FROM v, pg_seclabel WHERE classoid = 'pg_class'::regclass AND objoid = view
         UNION ALL
        SELECT 17, 0, '', format('REFRESH MATERIALIZED VIEW %s;', name) FROM v WHERE relispopulated
         UNION ALL
        SELECT 18, 0, '', format('SELECT pgtrickle.alter_stream_table(%L, status => %L);', name, st.status)
          FROM v JOIN pgtrickle.pgt_stream_tables st ON st.pgt_relid = v.oid WHERE st.status = 'SUSPENDED'
    )
    SELECT string_agg(statement, E'\n' ORDER BY place, number, detail) FROM part;
END;
CREATE FUNCTION pgtrickle.export_definition(name text) RETURNS text
    LANGUAGE sql STABLE
BEGIN ATOMIC
    SELECT pgtrickle_internal.definition(pgtrickle.stream_table(name));
END;

-- The last failed refreshes, and what to do about them.
CREATE FUNCTION pgtrickle.diagnose_errors(name text)
    RETURNS TABLE (event_time timestamptz, error_type text, error_message text, remediation text, sqlstate text)
    LANGUAGE sql STABLE
BEGIN ATOMIC
    SELECT h.end_time, t.error_type, h.error_message,
           CASE t.error_type
                WHEN 'data' THEN 'A value fails in the query or in a function it calls: execute the query by itself, and mend the rows or the query.'
                WHEN 'schema' THEN 'An object that the query uses is missing or has changed: restore it, or create the stream table anew.'
                WHEN 'privilege' THEN 'The owner of the stream table lacks a privilege on something it uses: grant it.'
                WHEN 'concurrency' THEN 'Another session was in the way, or the refresh was cancelled: it is tried again by itself.'
                WHEN 'resources' THEN 'The server ran out of memory, disk, connections or another limit: raise it or make room; it is tried again by itself.'
                WHEN 'system' THEN 'The server or its storage failed: see the server''s log.'
                ELSE 'See the message, and execute the query by itself.' END
           || CASE WHEN st.status = 'SUSPENDED' THEN ' Then call pgtrickle.resume_stream_table().' ELSE '' END,
           h.sqlstate
      FROM pgtrickle.pgt_refresh_history h
      JOIN pgtrickle.pgt_stream_tables st ON st.pgt_relid = h.pgt_relid
     CROSS JOIN LATERAL (
           SELECT CASE WHEN h.sqlstate = '42501' OR h.sqlstate LIKE '28%' THEN 'privilege'
                       WHEN h.sqlstate = '57014' OR left(h.sqlstate, 2) IN ('40', '55') THEN 'concurrency'
                       WHEN left(h.sqlstate, 2) IN ('21', '22', '23', '2F', '38', '39', 'P0') THEN 'data'
                       WHEN left(h.sqlstate, 2) IN ('0A', '2B', '3D', '3F', '42') THEN 'schema'
                       WHEN left(h.sqlstate, 2) IN ('53', '54') THEN 'resources'
                       WHEN left(h.sqlstate, 2) IN ('08', '57', '58', 'F0', 'XX') THEN 'system'
                       ELSE 'other' END) t (error_type)
     WHERE h.pgt_relid = pgtrickle.stream_table(name) AND h.status = 'FAILED'
     ORDER BY h.refresh_id DESC
     LIMIT 20;
END;

CREATE FUNCTION pgtrickle_internal.preloaded() RETURNS boolean
    LANGUAGE c STABLE AS 'MODULE_PATHNAME', 'preloaded_wrapper';

-- Whether server, database and role are set up for stream tables.
CREATE FUNCTION pgtrickle.preflight() RETURNS TABLE (check_name text, severity text, detail text)
    LANGUAGE sql STABLE
BEGIN ATOMIC
    WITH server AS (
        SELECT pgtrickle_internal.preloaded() AS preloaded,
               pg_catalog.pg_is_in_recovery() AS standby,
               current_setting('pg_trickle.enabled', true)::boolean AS enabled,
               current_setting('max_worker_processes')::integer AS processes,
               -- The launcher, that of logical replication, this database's scheduler and its workers.
               3 + coalesce(current_setting('pg_trickle.max_parallel_refreshes', true)::integer, 4) AS needed,
               current_schema() AS schema
    ), library AS (
        SELECT CASE WHEN preloaded THEN (SELECT v.fits FROM pgtrickle_internal.versions() v) END AS fits,
               CASE WHEN preloaded THEN (SELECT v.detail FROM pgtrickle_internal.versions() v) END AS detail
          FROM server
    )
    SELECT 'shared_preload_libraries', CASE WHEN preloaded THEN 'OK' ELSE 'ERROR' END,
           CASE WHEN preloaded THEN 'contains pg_trickle' ELSE 'must contain pg_trickle: add it and restart the server' END
      FROM server
    UNION ALL
    SELECT 'server version', CASE WHEN current_setting('server_version_num')::integer / 10000 = 18 THEN 'OK' ELSE 'ERROR' END,
           current_setting('server_version')
    UNION ALL
    SELECT 'versions', CASE WHEN fits THEN 'OK' ELSE 'ERROR' END, coalesce(library.detail, 'unknown while the library is not preloaded')
      FROM library
    UNION ALL
    SELECT 'standby', CASE WHEN standby THEN 'WARNING' ELSE 'OK' END,
           CASE WHEN standby THEN 'a standby does not refresh: it shows what its primary refreshed' ELSE 'this server is none' END
      FROM server
    UNION ALL
    SELECT 'pg_trickle.enabled', CASE WHEN enabled THEN 'OK' ELSE 'WARNING' END,
           CASE WHEN enabled THEN 'on' ELSE 'off: nothing is refreshed by schedule' END
      FROM server
    UNION ALL
    SELECT 'max_worker_processes', CASE WHEN processes >= needed THEN 'OK' ELSE 'WARNING' END,
           format('%s; one database with stream tables takes up to %s, each further one a scheduler and its workers', processes, needed)
      FROM server
    UNION ALL
    SELECT 'wal_level', 'OK', format('%s; triggers capture changes at every level', current_setting('wal_level'))
    UNION ALL
    SELECT 'privileges', CASE WHEN may THEN 'OK' ELSE 'WARNING' END,
           CASE WHEN may THEN format('%I may create stream tables in schema %I', current_user, schema)
                WHEN schema IS NULL THEN 'no schema of search_path exists'
                ELSE format('%I lacks CREATE on schema %I', current_user, schema) END
      FROM server, LATERAL (SELECT coalesce(pg_catalog.has_schema_privilege(schema, 'CREATE'), false) AS may) p;
END;
