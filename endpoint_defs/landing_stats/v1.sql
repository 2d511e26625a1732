SELECT
    count() AS events,
    uniq(customer_id) AS customers,
    uniq(person_id) AS people,
    uniqExact(country) AS countries,
    sum(amount) AS revenue
FROM events
