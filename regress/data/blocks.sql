-- Views whose blocks are to be maintained by delta.
SET pg_trickle.refresh_strategy = delta;
SET pg_trickle.rebuild_mismatched = off;
\getenv srcdir PG_ABS_SRCDIR
\set helpers :srcdir '/data/wrong.sql'
\i :helpers
-- Refreshes every view; those that differ from their query.
CREATE FUNCTION settle() RETURNS TABLE (view regclass, wrong bigint) LANGUAGE plpgsql AS $$
BEGIN
    FOR view IN SELECT oid FROM pg_class WHERE relkind = 'm' AND relnamespace = current_schema()::regnamespace ORDER BY relname LOOP
        EXECUTE format('REFRESH MATERIALIZED VIEW %s', view);
        wrong := wrong(view);
        IF wrong > 0 THEN RETURN NEXT; END IF;
    END LOOP;
END $$;
CREATE FUNCTION modes() RETURNS TABLE (view name, mode text, reason text) LANGUAGE sql AS $$
    SELECT relname, effective_mode, downgrade_reason
      FROM pg_class, pgtrickle.explain_refresh_mode(oid::regclass::text)
     WHERE relkind = 'm' AND relnamespace = current_schema()::regnamespace ORDER BY relname COLLATE "C"
$$;
