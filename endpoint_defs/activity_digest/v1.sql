-- A range over days, and a condition that may be left out: rows are kept by customer, day and event, with counts as
-- they are and distinct people as ClickHouse states, which are merged for the days that a call asks for.
SELECT
    event,
    count() AS events,
    uniq(person_id) AS people,
    sum(amount) AS revenue,
    max(timestamp) AS last_seen
FROM events
WHERE customer_id = {customer_id:String}
  AND toDate(timestamp) >= {since:Date}
  AND event = {event:String}
GROUP BY event
ORDER BY events DESC, event
