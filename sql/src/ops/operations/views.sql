-- GET /api/v4/operations/status: one row
CREATE VIEW operations_status AS
SELECT
    4 AS phase,
    CASE WHEN incidents.critical > 0 THEN 'critical' WHEN incidents.open > 0 OR threats.open > 0 THEN 'degraded' ELSE 'healthy' END AS state,
    incidents.open AS open_incidents,
    threats.open AS open_threats,
    incidents.last AS last_incident_at,
    threats.last AS last_threat_at,
    scaling.last AS last_scaling_at,
    governance.last AS last_adaptation_at
FROM
    (SELECT
        count(*) FILTER (WHERE resolved_at IS NULL) AS open,
        count(*) FILTER (WHERE resolved_at IS NULL AND severity = 'critical') AS critical,
        max(detected_at) AS last
     FROM healing_incidents) AS incidents
CROSS JOIN
    (SELECT count(*) AS open, max(detected_at) AS last FROM threats_alerts) AS threats
CROSS JOIN
    (SELECT max(timestamp) AS last FROM scaling_events) AS scaling
CROSS JOIN
    (SELECT max(timestamp) AS last FROM governance_adaptations) AS governance;
