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

-- One row per stream table. Its schedule, refresh_mode and cdc_mode stand in pg_class.reloptions only.
CREATE TABLE pgtrickle_internal.stream_table (
    relid              oid         PRIMARY KEY,
    id                 bigint      NOT NULL,
    fingerprint        bigint      NOT NULL, -- of the rewritten query
    status             text        NOT NULL,
    effective_mode     text        NOT NULL,
    downgrade_reason   text,
    pinned             text[]      NOT NULL, -- name=value of settings in force when it was made
    frontier           bytea,                -- null: unpopulated
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
    reason text NOT NULL
);
CREATE INDEX reinit_view ON pgtrickle_internal.reinit (view);

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

-- State tables of stateful blocks.
CREATE TABLE pgtrickle_internal.state (
    view  oid      NOT NULL,
    block smallint NOT NULL,
    relid oid      NOT NULL,
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
    PRIMARY KEY (pgt_relid, refresh_id)
);
CREATE SEQUENCE pgtrickle_internal.refresh_id;
ALTER TABLE pgtrickle.pgt_refresh_history ENABLE ROW LEVEL SECURITY;
CREATE POLICY maintainers ON pgtrickle.pgt_refresh_history FOR SELECT
    USING (pg_catalog.has_table_privilege(pgt_relid, 'MAINTAIN'));
GRANT SELECT ON pgtrickle.pgt_refresh_history TO PUBLIC;
