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
