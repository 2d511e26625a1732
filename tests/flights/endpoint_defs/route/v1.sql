SELECT time_hour AS hour, carrier, flight, tailnum, dep_delay, arr_delay
FROM flights
WHERE origin = {origin:String}
  AND dest = {dest:String}
  AND dep_delay IS NOT NULL
ORDER BY hour, carrier, flight
