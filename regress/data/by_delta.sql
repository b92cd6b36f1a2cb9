-- Views that must be maintained by delta, and what is wrong with any of them after a change.
SET pg_trickle.refresh_strategy = delta;
\getenv srcdir PG_ABS_SRCDIR
\set helpers :srcdir '/data/wrong.sql'
\i :helpers

-- Makes a view; says how it is maintained if not by delta.
CREATE PROCEDURE maintain(view text, query text) LANGUAGE plpgsql AS $$
DECLARE
    verdict text;
BEGIN
    EXECUTE format('CREATE MATERIALIZED VIEW %I WITH (pg_trickle.incremental) AS %s', view, query);
    SELECT format('%s: %s, %s', view, effective_mode, downgrade_reason) INTO verdict
        FROM pgtrickle_internal.stream_table WHERE relid = view::regclass AND effective_mode <> 'DIFFERENTIAL';
    IF FOUND THEN
        RAISE NOTICE '%', verdict;
    END IF;
END $$;

-- Refreshes every view of the schema: how many were refreshed in each way, and which are wrong.
CREATE FUNCTION refresh_all(OUT actions text, OUT wrong text) LANGUAGE plpgsql AS $$
DECLARE
    last bigint := (SELECT coalesce(max(refresh_id), 0) FROM pgtrickle.pgt_refresh_history);
    view text;
BEGIN
    FOR view IN SELECT pgt_name FROM pgtrickle.pgt_stream_tables WHERE pgt_schema = current_schema ORDER BY 1 LOOP
        PERFORM pgtrickle.refresh_stream_table(view);
        IF wrong(view::regclass) > 0 THEN
            wrong := concat_ws(' ', wrong, view);
        END IF;
    END LOOP;
    SELECT string_agg(format('%s %s', n, action), ', ' ORDER BY action) INTO actions
        FROM (SELECT action, count(*) AS n FROM pgtrickle.pgt_refresh_history WHERE refresh_id > last GROUP BY action) h;
END $$;
