-- `{customer_id:String}` is ClickHouse's own placeholder: name and type, bound and never pasted in.
-- It is compared for equality with a column, so the rows of all customers are materialized at once, sorted by
-- customer, and a call reads one customer's rows out of Parquet.
SELECT
    toDate(timestamp) AS day,
    event,
    count() AS events,
    uniq(person_id) AS people
FROM events
WHERE customer_id = {customer_id:String}
GROUP BY day, event
ORDER BY day, event
