-- GET /api/v4/scaling/history
CREATE VIEW scaling_history AS
SELECT
    id,
    timestamp,
    scaling_type,
    resource_type,
    predicted_demand,
    actual_demand,
    scaling_action,
    cost_impact,
    performance_impact,
    scaling_action ->> 'service' AS service,
    scaling_action ->> 'executed_by' AS executed_by
FROM scaling_events;

-- GET /api/v4/scaling/plans
CREATE VIEW scaling_plans AS
SELECT
    id,
    created_at,
    created_by,
    service,
    strategy,
    steps,
    expected,
    confidence,
    advisory,
    binding_dimension,
    warnings,
    expires_at,
    CASE WHEN expires_at <= now() THEN 'expired' WHEN advisory THEN 'advisory' ELSE 'ready' END AS state,
    request
FROM juno_scaling_plans;
