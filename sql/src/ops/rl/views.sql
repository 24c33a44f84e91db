-- GET /api/v4/rl/policies: every version, without its bytes
CREATE VIEW rl_policies AS
SELECT
    id,
    name,
    version,
    algorithm,
    state,
    scope,
    features_schema_hash,
    action_space,
    hyperparameters,
    reward,
    trained_at,
    trained_by,
    training_job,
    parent,
    promoted_at,
    replaced,
    metrics,
    checksum,
    'r' || CAST(revision AS TEXT) AS etag
FROM juno_rl_policies;

-- GET /api/v4/rl/performance: decisions with what came of them; those of the fixed rule are the baseline
CREATE VIEW rl_performance AS
SELECT
    id,
    at,
    policy,
    policy_id,
    policy_version,
    service,
    CASE WHEN policy_id IS NOT NULL THEN reward END AS reward,
    CASE WHEN policy_id IS NULL THEN reward END AS baseline_reward,
    CASE WHEN policy_id IS NOT NULL THEN CAST(outcome ->> 'cost' AS DOUBLE PRECISION) END AS cost,
    CASE WHEN policy_id IS NOT NULL THEN CAST(outcome ->> 'violation' AS DOUBLE PRECISION) END AS violation,
    CASE WHEN policy_id IS NOT NULL THEN CASE WHEN explored THEN 1.0 ELSE 0.0 END END AS explored,
    CASE WHEN policy_id IS NOT NULL AND NOT explored THEN CAST(action ->> 'k' AS DOUBLE PRECISION) END AS k,
    CASE WHEN policy_id IS NOT NULL AND NOT explored THEN CAST(action ->> 'hold_s' AS DOUBLE PRECISION) END AS hold_s,
    CASE WHEN policy_id IS NOT NULL AND NOT explored THEN CAST(action ->> 'guard' AS DOUBLE PRECISION) END AS guard
FROM rl_experience;
