SELECT
    event,
    count() AS events,
    uniq(person_id) AS people,
    sum(amount) AS revenue,
    max(timestamp) AS last_seen
FROM events
WHERE customer_id = {customer_id:String}
  AND timestamp >= {since:DateTime}
  AND event = {event:String}
GROUP BY event
ORDER BY events DESC, event
