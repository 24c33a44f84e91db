SELECT
    sum(decisions) AS decisions,
    count(reward) AS days,
    avg(reward) AS reward,
    avg(baseline_reward) AS baseline_reward,
    100.0 * (avg(reward) - avg(baseline_reward)) / nullif(abs(avg(baseline_reward)), 0) AS improvement_pct,
    100.0 * (avg(reward) - avg(baseline_reward) - 1.96 * sqrt(
        var_samp(reward) / nullif(count(reward), 0) + var_samp(baseline_reward) / nullif(count(baseline_reward), 0)
    )) / nullif(abs(avg(baseline_reward)), 0) AS improvement_pct_low,
    100.0 * (avg(reward) - avg(baseline_reward) + 1.96 * sqrt(
        var_samp(reward) / nullif(count(reward), 0) + var_samp(baseline_reward) / nullif(count(baseline_reward), 0)
    )) / nullif(abs(avg(baseline_reward)), 0) AS improvement_pct_high,
    max(stability_pct) AS stability_pct
FROM (
    SELECT
        time_bucket(INTERVAL '1 day', d.at) AS day,
        count(*) AS decisions,
        avg(d.reward) AS reward,
        avg(d.baseline_reward) AS baseline_reward,
        max(CASE WHEN p.state = 'active' THEN CAST(p.metrics ->> 'stability_pct' AS DOUBLE PRECISION) END) AS stability_pct
    FROM {rows} AS d
    LEFT JOIN rl_policies AS p ON p.id = d.policy_id
    GROUP BY 1
) AS days
