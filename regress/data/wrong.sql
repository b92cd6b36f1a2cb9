-- How many rows of a view differ from its query, compared as text so that 1.0 is not 1.00. Or by the types' equality: of group
-- keys that are equal, GROUP BY may show any.
CREATE FUNCTION wrong(view regclass, by_equality boolean DEFAULT false) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
    columns text := CASE WHEN by_equality THEN 'x.*' ELSE 'x::text' END;
    wrong bigint;
BEGIN
    EXECUTE format('SELECT count(*) FROM ((SELECT %3$s FROM %1$s x EXCEPT ALL SELECT %3$s FROM (%2$s) x)
                    UNION ALL (SELECT %3$s FROM (%2$s) x EXCEPT ALL SELECT %3$s FROM %1$s x)) d',
                   view, rtrim(pg_get_viewdef(view), ';'), columns) INTO wrong;
    RETURN wrong;
END $$;
