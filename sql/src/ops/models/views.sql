-- Every version of every model, without its bytes.
CREATE VIEW models AS
SELECT
    m.name,
    m.version,
    m.kind,
    m.promoted_at IS NOT NULL AND m.promoted_at = last.promoted_at AS active,
    m.created_at,
    m.promoted_at,
    m.window_start,
    m.window_end,
    m.training_rows,
    m.attack_rows,
    m.features,
    m.schema_hash,
    m.metrics,
    m.checksum,
    d.drift
FROM juno_models m
JOIN (SELECT name, max(promoted_at) AS promoted_at FROM juno_models GROUP BY name) last ON last.name = m.name
LEFT JOIN juno_model_drift d ON d.name = m.name AND d.version = m.version;
