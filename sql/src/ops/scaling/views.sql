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
    scaling_action ->> 'executed_by' AS executed_by,
    CAST(performance_impact ->> 'forecast_error_pct' AS DOUBLE PRECISION) AS forecast_error_pct,
    CAST(performance_impact ->> 'sla_during' AS DOUBLE PRECISION) AS sla_during,
    CAST(performance_impact ->> 'saving_vs_reactive_pct' AS DOUBLE PRECISION) AS saving_vs_reactive_pct,
    -- Without a currency the money is what the plan's cost_per_hour is counted in.
    CASE WHEN cost_impact IS NOT NULL THEN coalesce(scaling_action ->> 'cost_unit', 'unit.cost_per_hour') END AS cost_unit
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
    request,
    CAST(id AS TEXT) AS etag
FROM juno_scaling_plans;

-- GET /api/v4/scaling/autoscale
CREATE VIEW scaling_autoscaled AS
SELECT
    service AS id,
    service,
    enabled,
    executor,
    target,
    request,
    changed_at,
    changed_by,
    decided_at,
    decision ->> 'state' AS state,
    decision
FROM juno_autoscaled;
