-- The circuit of a query, as the stage sees it: a plain materialized view will do.
CREATE FUNCTION circuit(query text) RETURNS SETOF text LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE 'CREATE MATERIALIZED VIEW circuit_view AS ' || query || ' WITH NO DATA';
    RETURN NEXT '--- ' || query;
    RETURN QUERY SELECT line FROM regexp_split_to_table(pgtrickle_internal.circuit('circuit_view'), E'\n') line;
    DROP MATERIALIZED VIEW circuit_view;
END $$;
