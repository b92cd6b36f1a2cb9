-- Rows in which the view and its query differ, compared as text so that 1.0 is not 1.00.
CREATE FUNCTION differences(view regclass) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
    n bigint;
    query text := rtrim(pg_get_viewdef(view), ';');
BEGIN
    EXECUTE format('SELECT count(*) FROM ((SELECT q::text FROM (%s) q EXCEPT ALL SELECT v::text FROM %s v)
        UNION ALL (SELECT v::text FROM %2$s v EXCEPT ALL SELECT q::text FROM (%1$s) q)) d', query, view) INTO n;
    RETURN n;
END $$;
-- What a refresh wrote.
CREATE FUNCTION refresh(view regclass) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    plan json;
BEGIN
    EXECUTE format('EXPLAIN (ANALYZE, FORMAT JSON) REFRESH MATERIALIZED VIEW %s', view) INTO plan;
    plan := plan->0->'Plan';
    RETURN format('+%s ~%s -%s', plan->>'Rows Inserted', plan->>'Rows Updated', plan->>'Rows Deleted');
END $$;
-- amcheck over the view and its btree indexes: an error, or nothing.
CREATE FUNCTION check_storage(view regclass) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    index oid;
BEGIN
    FOR index IN SELECT indexrelid FROM pg_index JOIN pg_class i ON i.oid = indexrelid JOIN pg_am a ON a.oid = relam
        WHERE indrelid = view AND amname = 'btree' LOOP
        PERFORM bt_index_check(index, true);
    END LOOP;
    RETURN (SELECT string_agg(msg, E'\n') FROM verify_heapam(view));
END $$;
