SELECT
    totals.events,
    kinds.counts AS scaling_type,
    resources.counts AS resource_type,
    totals.by_human,
    totals.by_policy,
    totals.cost_impact,
    totals.priced,
    totals.judged,
    totals.judged_share,
    totals.saving_vs_reactive_pct,
    totals.sla_during,
    totals.forecast_error_pct
FROM (
    SELECT
        count(*) AS events,
        count(*) FILTER (WHERE executed_by = 'human') AS by_human,
        count(*) FILTER (WHERE executed_by = 'policy') AS by_policy,
        sum(cost_impact) AS cost_impact,
        count(cost_impact) AS priced,
        count(performance_impact) AS judged,
        avg(CASE WHEN performance_impact IS NULL THEN 0.0 ELSE 1.0 END) AS judged_share,
        avg(saving_vs_reactive_pct) AS saving_vs_reactive_pct,
        avg(sla_during) AS sla_during,
        avg(abs(forecast_error_pct)) AS forecast_error_pct
    FROM {rows} AS t
) AS totals
CROSS JOIN (
    SELECT jsonb_object_agg(scaling_type, n) AS counts
    FROM (SELECT scaling_type, count(*) AS n FROM {rows} AS t GROUP BY scaling_type) AS s
) AS kinds
CROSS JOIN (
    SELECT jsonb_object_agg(resource_type, n) AS counts
    FROM (SELECT resource_type, count(*) AS n FROM {rows} AS t GROUP BY resource_type) AS s
) AS resources
