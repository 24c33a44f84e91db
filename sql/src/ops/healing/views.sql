-- GET /api/v4/healing/incidents
CREATE VIEW healing_incidents_list AS
SELECT
    id,
    detected_at,
    incident_type,
    severity,
    symptoms,
    diagnosis,
    remediation_actions,
    resolved_at,
    resolution_time_seconds,
    success,
    coalesce(remediation_actions ->> 'status', CASE
        WHEN resolved_at IS NOT NULL AND success IS NOT FALSE THEN 'resolved'
        WHEN resolved_at IS NOT NULL THEN 'failed'
        WHEN remediation_actions IS NOT NULL THEN 'remediating'
        WHEN diagnosis IS NOT NULL THEN 'diagnosing'
        ELSE 'open'
    END) AS status,
    symptoms ->> 'service' AS service,
    remediation_actions -> 'timeline' AS timeline,
    -- Anybody may write these members: what is no number is not known.
    TRY_CAST(symptoms ->> 'detection_s' AS DOUBLE PRECISION) AS detection_s,
    TRY_CAST(remediation_actions ->> 'diagnosis_s' AS DOUBLE PRECISION) AS diagnosis_s,
    TRY_CAST(remediation_actions ->> 'remediation_s' AS DOUBLE PRECISION) AS remediation_s,
    TRY_CAST(symptoms ->> 'repetitions' AS BIGINT) AS dedup_count,
    remediation_actions ->> 'escalated_to' AS escalated_to
FROM healing_incidents;

-- GET /api/v4/runbooks: what can be done about an incident; risk decides by the automation level what is done without asking
CREATE VIEW runbooks AS
SELECT
    b.id,
    b.version,
    b.risk,
    b.does,
    tried.successes,
    tried.failures
FROM runbooks_built_in AS b
LEFT JOIN (
    SELECT
        runbook,
        count(*) FILTER (WHERE state = 'succeeded') AS successes,
        count(*) FILTER (WHERE state = 'failed') AS failures
    FROM juno_remediations
    GROUP BY runbook
) AS tried ON tried.runbook = b.id;

-- GET /api/v4/healing/status
CREATE VIEW healing_status AS
SELECT
    live.components -> 'self_healing' ->> 'enabled' = 'true' AS enabled,
    live.autonomy_level AS automation_level,
    CAST(live.sensitivity AS DOUBLE PRECISION) AS sensitivity,
    live.components -> 'self_healing' ->> 'last_run_at' AS last_run_at,
    standing.detectors,
    standing.runbooks,
    incidents.in_progress,
    standing.budget,
    windows.freeze AS freeze_windows,
    jsonb_build_object(
        'window', '30d',
        'n', incidents.n,
        'resolved', incidents.resolved,
        'detection_s', jsonb_build_object('p50', incidents.detection_p50, 'p95', incidents.detection_p95),
        'diagnosis_s', jsonb_build_object('p50', incidents.diagnosis_p50, 'p95', incidents.diagnosis_p95),
        'remediation_s', jsonb_build_object('p50', incidents.p50, 'p95', incidents.p95),
        'success_rate', jsonb_build_object(
            'value', incidents.healed / nullif(incidents.judged, 0),
            'ci95', jsonb_build_array(
                greatest((incidents.healed + 1.920729440648 - incidents.spread) / (incidents.judged + 3.841458881296), 0),
                least((incidents.healed + 1.920729440648 + incidents.spread) / (incidents.judged + 3.841458881296), 1)))
    ) AS stats
FROM operations_live AS live
CROSS JOIN healing_standing AS standing
CROSS JOIN
    -- Wilson's score interval: the numbers are z, and its square in wholes, halves and quarters, of 95 %.
    (SELECT
        *,
        1.959964 * sqrt(coalesce(healed * (judged - healed) / nullif(judged, 0), 0) + 0.960364720324) AS spread
     FROM
        (SELECT
            count(*) FILTER (WHERE status IN ('remediating', 'verifying')) AS in_progress,
            count(*) FILTER (WHERE detected_at > now() - INTERVAL '30 days') AS n,
            count(resolved_at) FILTER (WHERE detected_at > now() - INTERVAL '30 days') AS resolved,
            approx_percentile_cont(resolution_time_seconds, 0.5)
                FILTER (WHERE detected_at > now() - INTERVAL '30 days') AS p50,
            approx_percentile_cont(resolution_time_seconds, 0.95)
                FILTER (WHERE detected_at > now() - INTERVAL '30 days') AS p95,
            approx_percentile_cont(detection_s, 0.5)
                FILTER (WHERE detected_at > now() - INTERVAL '30 days') AS detection_p50,
            approx_percentile_cont(detection_s, 0.95)
                FILTER (WHERE detected_at > now() - INTERVAL '30 days') AS detection_p95,
            approx_percentile_cont(diagnosis_s, 0.5)
                FILTER (WHERE detected_at > now() - INTERVAL '30 days') AS diagnosis_p50,
            approx_percentile_cont(diagnosis_s, 0.95)
                FILTER (WHERE detected_at > now() - INTERVAL '30 days') AS diagnosis_p95,
            CAST(count(*) FILTER (WHERE detected_at > now() - INTERVAL '30 days' AND success) AS DOUBLE PRECISION) AS healed,
            CAST(count(*) FILTER (WHERE detected_at > now() - INTERVAL '30 days'
                AND (success IS NOT NULL OR status IN ('failed', 'escalated'))) AS DOUBLE PRECISION) AS judged
         FROM healing_incidents_list) AS counted) AS incidents
CROSS JOIN
    (SELECT count(*) AS freeze FROM juno_maintenance_windows
     WHERE freeze AND cancelled_at IS NULL AND starts_at <= now() AND ends_at > now()) AS windows;
