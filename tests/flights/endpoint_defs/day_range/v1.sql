SELECT day, count() AS flights, sum(dep_delay) AS minutes_late, min(dep_delay) AS earliest
FROM flights
WHERE day >= {date_from:Date}
  AND day < {date_to:Date}
  AND carrier = {carrier:String}
GROUP BY day
ORDER BY day
