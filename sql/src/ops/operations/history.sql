-- What operations_status says of the history tables, worked out from all their rows: operations_history keeps it.
CREATE VIEW operations_history_now AS
SELECT
    incidents.open AS open_incidents,
    incidents.critical AS critical_incidents,
    incidents.last AS last_incident_at,
    incidents.resolved_30d,
    incidents.judged_30d,
    incidents.success_rate,
    CAST(incidents.critical_s_30d AS BIGINT) AS critical_s_30d,
    CAST(incidents.remediation_p50 AS DOUBLE) AS remediation_p50,
    CAST(incidents.remediation_p95 AS DOUBLE) AS remediation_p95,
    threats.open AS open_threats,
    threats.last AS last_threat_at,
    scaling.last AS last_scaling_at,
    governance.last AS last_adaptation_at,
    incidents.n + seen.n + scaling.n + governance.n AS rows
FROM
    (SELECT
        count(*) AS n,
        count(*) FILTER (WHERE resolved_at IS NULL) AS open,
        count(*) FILTER (WHERE resolved_at IS NULL AND severity = 'critical') AS critical,
        max(detected_at) AS last,
        count(*) FILTER (WHERE resolved_at > now() - INTERVAL '30 days') AS resolved_30d,
        count(*) FILTER (WHERE resolved_at > now() - INTERVAL '30 days' AND success IS NOT NULL) AS judged_30d,
        avg(CASE WHEN success THEN 1.0 ELSE 0.0 END)
            FILTER (WHERE resolved_at > now() - INTERVAL '30 days' AND success IS NOT NULL) AS success_rate,
        sum(resolution_time_seconds)
            FILTER (WHERE resolved_at > now() - INTERVAL '30 days' AND severity = 'critical') AS critical_s_30d,
        approx_percentile_cont(resolution_time_seconds, 0.5)
            FILTER (WHERE resolved_at > now() - INTERVAL '30 days') AS remediation_p50,
        approx_percentile_cont(resolution_time_seconds, 0.95)
            FILTER (WHERE resolved_at > now() - INTERVAL '30 days') AS remediation_p95
     FROM healing_incidents) AS incidents
CROSS JOIN
    (SELECT count(*) AS open, max(detected_at) AS last FROM threats_alerts) AS threats
CROSS JOIN
    (SELECT count(*) AS n FROM threat_events) AS seen
CROSS JOIN
    (SELECT count(*) AS n, max(timestamp) AS last FROM scaling_events) AS scaling
CROSS JOIN
    (SELECT count(*) AS n, max(timestamp) AS last FROM governance_adaptations) AS governance;
