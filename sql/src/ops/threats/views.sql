-- GET /api/v4/threats/history: what watches and analyses wrote into indicators stands in columns of its own. A default stands on the
-- left of || so that what is there wins.
CREATE VIEW threats_history AS
SELECT
    id,
    detected_at,
    threat_type,
    severity,
    indicators,
    confidence_score,
    response_actions,
    resolved_at,
    false_positive,
    CASE
        WHEN false_positive THEN 'false_positive'
        WHEN resolved_at IS NOT NULL THEN 'resolved'
        WHEN response_actions IS NULL THEN 'new'
        ELSE coalesce(response_actions ->> 'state', 'contained')
    END AS status,
    indicators ->> 'entity' AS entity,
    (jsonb_build_object('mitre', jsonb_build_array()) || indicators) -> 'mitre' AS mitre,
    coalesce(
        TRY_CAST(coalesce(
            indicators ->> 'alarms',
            indicators ->> 'events',
            indicators -> 'evidence' ->> 'failures',
            indicators -> 'evidence' ->> 'connections',
            indicators -> 'evidence' ->> 'queries'
        ) AS BIGINT),
        1
    ) AS dedup_count,
    coalesce(TRY_CAST(indicators -> 'window' ->> 'from' AS TIMESTAMPTZ), detected_at) AS first_seen,
    coalesce(TRY_CAST(indicators -> 'window' ->> 'to' AS TIMESTAMPTZ), detected_at) AS last_seen,
    (
        jsonb_build_object('recommended_response', jsonb_build_object(
            'action', CASE
                WHEN (indicators ->> 'entity') ~ '^(127\.|0\.0\.0\.0$|::1?$)' THEN 'notify'
                WHEN (indicators ->> 'entity') ~ '^(([0-9]{1,3}\.){3}[0-9]{1,3}|[0-9a-fA-F]*:[0-9a-fA-F:.]+)$' THEN 'block_ip'
                ELSE 'notify'
            END,
            'target', indicators ->> 'entity'
        )) || indicators
    ) -> 'recommended_response' AS recommended_response
FROM threat_events;

-- GET /api/v4/threats/alerts
CREATE VIEW threats_alerts AS
SELECT *
FROM threats_history
WHERE resolved_at IS NULL AND false_positive IS NOT TRUE;

-- GET /api/v4/threats/responses
CREATE VIEW threats_responses AS
SELECT
    id,
    threat_event_id,
    at,
    action,
    executor,
    target,
    state,
    actor,
    approved_by,
    contained_at,
    expires_at,
    undone_at,
    undo_attempts,
    error,
    evidence,
    evidence_sha256
FROM juno_threat_responses;

-- What the watch looks for besides behaviours and indicators
CREATE VIEW sigma_rules AS
SELECT
    id,
    kind,
    title,
    level,
    status,
    tags,
    techniques,
    source_file,
    loaded_at
FROM juno_sigma_rules;

-- GET /api/v4/threats/status: models are the active ones, each with how new rows score beside its calibration
CREATE VIEW threats_status AS
SELECT
    live.components -> 'threats' ->> 'enabled' = 'true' AS enabled,
    live.components -> 'threats' ->> 'state' AS state,
    live.components -> 'threats' ->> 'last_run_at' AS last_run_at,
    live.components -> 'threats' ->> 'last_error' AS last_error,
    history.open_threats,
    known.models,
    known.drifted AS drifted_models
FROM operations_live AS live
CROSS JOIN operations_history AS history
CROSS JOIN
    -- As the statement layer spells jsonb_agg: view files do not pass through it.
    (SELECT
        jsonb_agg(array_agg(to_jsonb(jsonb_build_object('name', name, 'version', version, 'promoted_at', promoted_at, 'drift', drift))
            ORDER BY name)) AS models,
        count(*) FILTER (WHERE drift ->> 'state' = 'drifted') AS drifted
     FROM models WHERE active) AS known;
