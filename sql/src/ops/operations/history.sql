-- What operations_status says of the history tables, worked out from all their rows: operations_history keeps it.
CREATE VIEW operations_history_now AS
SELECT
    incidents.open AS open_incidents,
    incidents.critical AS critical_incidents,
    incidents.last AS last_incident_at,
    incidents.resolved_30d,
    -- What failed or was escalated, and was not closed by people since, has not healed.
    incidents.judged_30d + recent.given_up AS judged_30d,
    CAST(incidents.healed_30d AS DOUBLE) / nullif(CAST(incidents.judged_30d + recent.given_up AS DOUBLE), 0) AS success_rate,
    CAST(coalesce(incidents.critical_s_30d, 0) + coalesce(incidents.critical_open_s, 0) AS BIGINT) AS critical_s_30d,
    CAST(incidents.remediation_p50 AS DOUBLE) AS remediation_p50,
    CAST(incidents.remediation_p95 AS DOUBLE) AS remediation_p95,
    recent.detected_30d,
    recent.detection_p50,
    recent.detection_p95,
    recent.diagnosed_30d,
    recent.diagnosis_p50,
    recent.diagnosis_p95,
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
        count(*) FILTER (WHERE resolved_at > now() - INTERVAL '30 days' AND success) AS healed_30d,
        sum(resolution_time_seconds)
            FILTER (WHERE resolved_at > now() - INTERVAL '30 days' AND severity = 'critical') AS critical_s_30d,
        -- An open one lasts until now, and the budget looks back no further than 30 days.
        sum(least(greatest(date_part('epoch', now()) - date_part('epoch', detected_at), 0), 2592000))
            FILTER (WHERE resolved_at IS NULL AND severity = 'critical') AS critical_open_s,
        approx_percentile_cont(resolution_time_seconds, 0.5)
            FILTER (WHERE resolved_at > now() - INTERVAL '30 days') AS remediation_p50,
        approx_percentile_cont(resolution_time_seconds, 0.95)
            FILTER (WHERE resolved_at > now() - INTERVAL '30 days') AS remediation_p95
     FROM healing_incidents) AS incidents
CROSS JOIN
    (SELECT
        count(detection_s) AS detected_30d,
        approx_percentile_cont(detection_s, 0.5) AS detection_p50,
        approx_percentile_cont(detection_s, 0.95) AS detection_p95,
        count(diagnosis_s) AS diagnosed_30d,
        approx_percentile_cont(diagnosis_s, 0.5) AS diagnosis_p50,
        approx_percentile_cont(diagnosis_s, 0.95) AS diagnosis_p95,
        count(*) FILTER (WHERE resolved_at IS NULL AND status IN ('failed', 'escalated')) AS given_up
     FROM healing_incidents_list
     WHERE detected_at > now() - INTERVAL '30 days') AS recent
CROSS JOIN
    (SELECT count(*) AS open, max(detected_at) AS last FROM threats_alerts) AS threats
CROSS JOIN
    (SELECT count(*) AS n FROM threat_events) AS seen
CROSS JOIN
    (SELECT count(*) AS n, max(timestamp) AS last FROM scaling_events) AS scaling
CROSS JOIN
    (SELECT count(*) AS n, max(timestamp) AS last FROM governance_adaptations) AS governance;
