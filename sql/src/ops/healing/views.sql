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
    CAST(symptoms ->> 'detection_s' AS DOUBLE PRECISION) AS detection_s,
    CAST(remediation_actions ->> 'diagnosis_s' AS DOUBLE PRECISION) AS diagnosis_s,
    CAST(remediation_actions ->> 'remediation_s' AS DOUBLE PRECISION) AS remediation_s
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
    books.runbooks,
    incidents.in_progress,
    windows.freeze AS freeze_windows,
    jsonb_build_object(
        'window', '30d',
        'n', incidents.n,
        'resolved', incidents.resolved,
        'detection_s', jsonb_build_object('p50', incidents.detection_p50, 'p95', incidents.detection_p95),
        'diagnosis_s', jsonb_build_object('p50', incidents.diagnosis_p50, 'p95', incidents.diagnosis_p95),
        'remediation_s', jsonb_build_object('p50', incidents.p50, 'p95', incidents.p95),
        'success_rate', incidents.success_rate
    ) AS stats
FROM operations_live AS live
CROSS JOIN
    -- As the statement layer spells jsonb_agg: view files do not pass through it.
    (SELECT jsonb_agg(array_agg(to_jsonb(jsonb_build_object('name', b.id, 'version', b.version, 'risk', b.risk, 'auto_approved',
        CASE l.autonomy_level
            WHEN 'full' THEN true
            WHEN 'high' THEN b.risk IN ('low', 'medium') OR coalesce(approvals.policy ->> b.id, '0') = '1'
            WHEN 'medium' THEN b.risk = 'low' OR b.risk = 'medium' AND coalesce(approvals.policy ->> b.id, '0') = '1'
            ELSE false
        END)) ORDER BY b.id)) AS runbooks
     FROM runbooks AS b
     CROSS JOIN operations_live AS l
     CROSS JOIN (SELECT policy FROM juno_policies WHERE policy_type = 'approvals') AS approvals) AS books
CROSS JOIN
    (SELECT
        count(*) FILTER (WHERE status IN ('remediating', 'verifying')) AS in_progress,
        count(*) FILTER (WHERE detected_at > now() - INTERVAL '30 days') AS n,
        count(resolved_at) FILTER (WHERE detected_at > now() - INTERVAL '30 days') AS resolved,
        approx_percentile_cont(resolution_time_seconds, 0.5) FILTER (WHERE detected_at > now() - INTERVAL '30 days') AS p50,
        approx_percentile_cont(resolution_time_seconds, 0.95) FILTER (WHERE detected_at > now() - INTERVAL '30 days') AS p95,
        approx_percentile_cont(detection_s, 0.5) FILTER (WHERE detected_at > now() - INTERVAL '30 days') AS detection_p50,
        approx_percentile_cont(detection_s, 0.95) FILTER (WHERE detected_at > now() - INTERVAL '30 days') AS detection_p95,
        approx_percentile_cont(diagnosis_s, 0.5) FILTER (WHERE detected_at > now() - INTERVAL '30 days') AS diagnosis_p50,
        approx_percentile_cont(diagnosis_s, 0.95) FILTER (WHERE detected_at > now() - INTERVAL '30 days') AS diagnosis_p95,
        avg(CASE WHEN success THEN 1.0 WHEN NOT success THEN 0.0 END)
            FILTER (WHERE detected_at > now() - INTERVAL '30 days') AS success_rate
     FROM healing_incidents_list) AS incidents
CROSS JOIN
    (SELECT count(*) AS freeze FROM juno_maintenance_windows
     WHERE freeze AND cancelled_at IS NULL AND starts_at <= now() AND ends_at > now()) AS windows;
