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
    CASE
        WHEN resolved_at IS NOT NULL AND success IS NOT FALSE THEN 'resolved'
        WHEN resolved_at IS NOT NULL THEN 'failed'
        WHEN remediation_actions IS NOT NULL THEN 'remediating'
        WHEN diagnosis IS NOT NULL THEN 'diagnosing'
        ELSE 'open'
    END AS status,
    symptoms ->> 'service' AS service
FROM healing_incidents;
