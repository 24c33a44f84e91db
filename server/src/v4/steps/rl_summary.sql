SELECT
    summary.*,
    jsonb_build_array(summary.improvement_pct_low, summary.improvement_pct_high) AS ci95,
    settled.convergence_h,
    adapted.adaptation_s
FROM (
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
) AS summary
CROSS JOIN (
    SELECT CASE WHEN last_s - settled_s >= 86400 THEN (settled_s - first_s) / 3600.0 END AS convergence_h
    FROM (
        SELECT
            min(hour_s) AS first_s,
            max(hour_s) AS last_s,
            coalesce(max(CASE WHEN abs(so_far - whole) > 0.05 * abs(whole) THEN hour_s END) + 3600.0, min(hour_s)) AS settled_s
        FROM (
            SELECT
                hour_s,
                sum(total) OVER (ORDER BY hour_s) / sum(n) OVER (ORDER BY hour_s) AS so_far,
                sum(total) OVER () / sum(n) OVER () AS whole
            FROM (
                SELECT
                    CAST(extract(epoch FROM time_bucket(INTERVAL '1 hour', d.at)) AS DOUBLE PRECISION) AS hour_s,
                    sum(d.reward) AS total,
                    CAST(count(d.reward) AS DOUBLE PRECISION) AS n
                FROM {rows} AS d
                WHERE d.reward IS NOT NULL
                GROUP BY 1
            ) AS hours
        ) AS curve
    ) AS spans
) AS settled
CROSS JOIN (
    SELECT avg(first_s - promoted_s) AS adaptation_s
    FROM (
        SELECT
            p.id,
            CAST(extract(epoch FROM max(p.promoted_at)) AS DOUBLE PRECISION) AS promoted_s,
            CAST(extract(epoch FROM min(d.at)) AS DOUBLE PRECISION) AS first_s
        FROM {rows} AS d
        JOIN rl_policies AS p ON p.id = d.policy_id
        CROSS JOIN (SELECT min(e.at) AS from_at FROM {rows} AS e) AS began
        WHERE p.state = 'active' AND d.at >= p.promoted_at AND p.promoted_at >= began.from_at
        GROUP BY p.id
    ) AS versions
) AS adapted
