\set ON_ERROR_STOP on
\t on
\a
SET search_path = bench, public;
CREATE PROCEDURE one(view text, rows int) LANGUAGE plpgsql AS $$
DECLARE
    us float8;
BEGIN
    CALL refresh_time(view, format('UPDATE orders SET amount = amount + 1 WHERE id = 1 + ($1 * 7919) %% %s', rows), 200, us);
    INSERT INTO result (work, us) VALUES (view, us);
    COMMIT;
END $$;
CALL one('v_filter', :rows);
CALL one('v_join', :rows);
CALL one('v_group', :rows);
CALL one('v_join_group', :rows);
SELECT :rows || ' rows: ' || string_agg(format('%s %s us', work, round(us)), ', ' ORDER BY number) FROM result;
