-- GET /api/v4/operations/jobs
CREATE VIEW operations_jobs AS
SELECT
    id,
    kind,
    state,
    progress,
    created_at,
    started_at,
    finished_at,
    arguments,
    plan,
    result,
    error,
    actor,
    approval_id,
    request_id,
    trace_id,
    jsonb_build_object('self', '/api/v4/operations/jobs/' || id) AS links
FROM juno_jobs;

-- GET /api/v4/approvals
CREATE VIEW approvals AS
SELECT
    id,
    requested_at,
    requested_by,
    operation,
    arguments,
    plan,
    reason,
    CASE WHEN state = 'pending' AND expires_at <= now() THEN 'expired' ELSE state END AS state,
    expires_at,
    decided_at,
    decided_by,
    comment,
    job_id
FROM juno_approvals;

-- GET /api/v4/maintenance-windows
CREATE VIEW maintenance_windows AS
SELECT
    id,
    name,
    service,
    freeze,
    starts_at,
    ends_at,
    reason,
    created_by,
    created_at,
    cancelled_by,
    cancelled_at,
    CASE
        WHEN cancelled_at IS NOT NULL THEN 'cancelled'
        WHEN ends_at <= now() THEN 'over'
        WHEN starts_at > now() THEN 'announced'
        ELSE 'active'
    END AS state
FROM juno_maintenance_windows;

-- GET /api/v4/kill-switch: every change; the newest counts
CREATE VIEW kill_switch AS
SELECT id, changed_at, engaged, reason, actor
FROM juno_kill_switch;

-- GET /api/v4/audit
CREATE VIEW audit AS
SELECT
    id,
    at,
    seq,
    record ->> 'stage' AS stage,
    record ->> 'operation' AS operation,
    record ->> 'actor' AS actor,
    record ->> 'outcome' AS outcome,
    record,
    previous,
    hash
FROM juno_audit;

-- GET /api/v4/events: the ids are of version 7, so that they sort by time
CREATE VIEW operations_events AS
SELECT id, type, at, subject, data FROM juno_events
UNION ALL
SELECT
    id,
    'incident',
    detected_at,
    CAST(id AS TEXT),
    jsonb_build_object('incident_type', incident_type, 'severity', severity, 'symptoms', symptoms)
FROM healing_incidents
UNION ALL
SELECT
    id,
    'threat',
    detected_at,
    CAST(id AS TEXT),
    jsonb_build_object('threat_type', threat_type, 'severity', severity, 'indicators', indicators)
FROM threat_events
UNION ALL
SELECT
    id,
    'scaling',
    timestamp,
    CAST(id AS TEXT),
    jsonb_build_object('scaling_type', scaling_type, 'resource_type', resource_type, 'scaling_action', scaling_action)
FROM scaling_events
UNION ALL
SELECT
    id,
    'policy',
    timestamp,
    CAST(id AS TEXT),
    jsonb_build_object('policy_type', policy_type, 'new_policy', new_policy, 'reason', adaptation_reason)
FROM governance_adaptations;

-- GET /api/v4/operations/status: one row
CREATE VIEW operations_status AS
SELECT
    live.phase,
    live.version,
    live.uptime_s,
    CASE
        WHEN windows.active > 0 THEN 'maintenance'
        WHEN history.critical_incidents > 0 THEN 'critical'
        WHEN history.open_incidents > 0 OR history.open_threats > 0 THEN 'degraded'
        ELSE 'healthy'
    END AS state,
    live.components,
    live.backend,
    history.open_incidents,
    history.open_threats,
    approvals.pending AS pending_approvals,
    jobs.running AS running_jobs,
    live.ai_native_operations,
    live.autonomy_level,
    coalesce(killed.engaged, false) AS kill_switch,
    jsonb_build_object(
        'slo', 0.999,
        'window', '30d',
        'remaining', 1.0 - coalesce(history.critical_s_30d, 0) / 2592.0
    ) AS error_budget,
    jsonb_build_object(
        'detection_s', jsonb_build_object(
            'target', 30, 'p50', history.detection_p50, 'p95', history.detection_p95, 'n', history.detected_30d),
        'diagnosis_s', jsonb_build_object(
            'target', 60, 'p50', history.diagnosis_p50, 'p95', history.diagnosis_p95, 'n', history.diagnosed_30d),
        'remediation_s', jsonb_build_object(
            'target', 300, 'p50', history.remediation_p50, 'p95', history.remediation_p95, 'n', history.resolved_30d),
        'success_rate', jsonb_build_object('target', 0.95, 'value', history.success_rate, 'n', history.judged_30d)
    ) AS slo_targets,
    history.last_incident_at,
    history.last_threat_at,
    history.last_scaling_at,
    history.last_adaptation_at
FROM operations_live AS live
CROSS JOIN operations_history AS history
CROSS JOIN
    (SELECT count(*) AS pending FROM juno_approvals WHERE state = 'pending' AND expires_at > now()) AS approvals
CROSS JOIN
    (SELECT count(*) AS running FROM juno_jobs WHERE state IN ('queued', 'running')) AS jobs
CROSS JOIN
    (SELECT count(*) AS active FROM juno_maintenance_windows
     WHERE cancelled_at IS NULL AND starts_at <= now() AND ends_at > now()) AS windows
CROSS JOIN
    (SELECT last(engaged, changed_at) AS engaged FROM juno_kill_switch) AS killed;
