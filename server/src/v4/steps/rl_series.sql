SELECT
    time_bucket(INTERVAL '{step}', at) AS t,
    count(*) AS decisions,
    avg(reward) AS reward,
    avg(baseline_reward) AS baseline_reward,
    avg(cost) AS cost,
    avg(violation) AS violation,
    avg(explored) AS exploration_share,
    CASE WHEN count(k) > 1 THEN 100.0 / 3.0 * (
        coalesce(stddev(k) / nullif(avg(k), 0), 0)
        + coalesce(stddev(hold_s) / nullif(avg(hold_s), 0), 0)
        + coalesce(stddev(guard) / nullif(avg(guard), 0), 0)
    ) END AS recommendation_variance_pct
FROM {rows} AS d
GROUP BY 1
ORDER BY 1
