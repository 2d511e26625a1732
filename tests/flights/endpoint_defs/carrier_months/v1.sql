SELECT
    toMonth(day) AS month,
    origin,
    count() AS flights,
    countIf(dep_delay > 15) AS late,
    uniqExact(tailnum) AS planes,
    sum(distance) AS miles,
    avg(arr_delay) AS mean_arrival_delay,
    quantileExact(0.5)(dep_delay) AS median_departure_delay,
    max(air_time) AS longest_air_time
FROM flights
WHERE carrier = {carrier:String}
GROUP BY month, origin
ORDER BY month, origin
