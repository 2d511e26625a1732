SELECT
    toDate(timestamp) AS day,
    country,
    count() AS pageviews,
    uniq(person_id) AS visitors
FROM events
WHERE event = 'pageview'
  AND os = {os:String}
GROUP BY day, country
ORDER BY day, country
