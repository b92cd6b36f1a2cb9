-- Changes :changed orders, refreshes the stream table and the plain view, and notes both times.
UPDATE orders SET status = CASE status WHEN 'returned' THEN 'shipped' ELSE 'returned' END
WHERE order_id IN (SELECT order_id FROM orders ORDER BY hashint8(order_id + :changed) LIMIT :changed);

SELECT clock_timestamp() AS started \gset
REFRESH MATERIALIZED VIEW revenue;
SELECT clock_timestamp() AS between \gset
REFRESH MATERIALIZED VIEW revenue_plain;
SELECT clock_timestamp() AS finished \gset

INSERT INTO timings
SELECT :changed, round(1000 * extract(epoch FROM :'between'::timestamptz - :'started'::timestamptz), 2),
       round(1000 * extract(epoch FROM :'finished'::timestamptz - :'between'::timestamptz), 2);
