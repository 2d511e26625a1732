-- GROUP BY day keeps the days apart, so that the answers of several partitions are put together by putting one
-- behind the other. Without it `uniq` would be stored as a state for each day, and merged when rows are read.
SELECT
    toDate(timestamp) AS day,
    count() AS events,
    uniq(person_id) AS people
FROM events
WHERE country = {country:String}
  AND toDate(timestamp) >= {date_from:Date}
GROUP BY day
ORDER BY day
