-- How many rows of a view differ from its query, by the types' own equality.
CREATE FUNCTION wrong(view regclass) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
    wrong bigint;
BEGIN
    EXECUTE format('SELECT count(*) FROM ((SELECT * FROM %1$s EXCEPT ALL SELECT * FROM (%2$s) wanted)
                    UNION ALL (SELECT * FROM (%2$s) wanted EXCEPT ALL SELECT * FROM %1$s)) x',
                   view, rtrim(pg_get_viewdef(view), ';')) INTO wrong;
    RETURN wrong;
END $$;
