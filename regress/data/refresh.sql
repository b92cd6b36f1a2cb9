-- Refreshes and says what that did and whether the view now equals its query.
CREATE FUNCTION refresh(view regclass) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    last bigint := (SELECT max(refresh_id) FROM pgtrickle.pgt_refresh_history WHERE pgt_relid = view);
    done record;
    wrong bigint;
BEGIN
    PERFORM pgtrickle.refresh_stream_table(view::text);
    SELECT * INTO done FROM pgtrickle.pgt_refresh_history
        WHERE pgt_relid = view AND refresh_id > last AND action <> 'NO_DATA' ORDER BY refresh_id DESC LIMIT 1;
    EXECUTE format('SELECT count(*) FROM ((SELECT stored::text FROM %1$s stored EXCEPT ALL SELECT wanted::text FROM (%2$s) wanted)
                    UNION ALL (SELECT wanted::text FROM (%2$s) wanted EXCEPT ALL SELECT stored::text FROM %1$s stored)) x',
                   view, rtrim(pg_get_viewdef(view), ';')) INTO wrong;
    RETURN coalesce(done.action || format(' +%s -%s ~%s', done.rows_inserted, done.rows_deleted, done.rows_updated), 'nothing') || CASE WHEN wrong > 0 THEN format(', %s ROWS WRONG', wrong) ELSE '' END;
END $$;
