SELECT toDate(timestamp) AS day, count() AS events
FROM events
WHERE customer_id = {customer_id:String}
GROUP BY day
ORDER BY day
