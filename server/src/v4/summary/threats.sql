SELECT
    totals.threats,
    severities.counts AS severity,
    types.counts AS type,
    states.counts AS status,
    jsonb_build_object(
        'value', totals.share,
        'ci95', jsonb_build_array(totals.low, totals.high),
        'n', CAST(totals.n AS BIGINT)
    ) AS tpr,
    jsonb_build_object(
        'value', 1.0 - totals.share,
        'ci95', jsonb_build_array(1.0 - totals.high, 1.0 - totals.low),
        'n', CAST(totals.n AS BIGINT)
    ) AS fpr
FROM (
    -- The interval of Wilson, 95 %.
    SELECT
        threats,
        n,
        k / nullif(n, 0) AS share,
        CASE WHEN k = 0 THEN 0.0
            ELSE (k + 1.9208 - 1.96 * sqrt(k * (n - k) / nullif(n, 0) + 0.9604)) / (n + 3.8416) END AS low,
        CASE WHEN k = n THEN 1.0
            ELSE (k + 1.9208 + 1.96 * sqrt(k * (n - k) / nullif(n, 0) + 0.9604)) / (n + 3.8416) END AS high
    FROM (
        -- Of those that people labelled, these were right.
        SELECT
            count(*) AS threats,
            CAST(count(*) FILTER (WHERE status IN ('resolved', 'false_positive')) AS DOUBLE PRECISION) AS n,
            CAST(count(*) FILTER (WHERE status = 'resolved') AS DOUBLE PRECISION) AS k
        FROM {rows} AS t
    ) AS labelled
) AS totals
CROSS JOIN (
    SELECT jsonb_object_agg(severity, n) AS counts
    FROM (SELECT severity, count(*) AS n FROM {rows} AS t GROUP BY severity) AS s
) AS severities
CROSS JOIN (
    SELECT jsonb_object_agg(threat_type, n) AS counts
    FROM (SELECT threat_type, count(*) AS n FROM {rows} AS t GROUP BY threat_type) AS s
) AS types
CROSS JOIN (
    SELECT jsonb_object_agg(status, n) AS counts
    FROM (SELECT status, count(*) AS n FROM {rows} AS t GROUP BY status) AS s
) AS states
