-- GET /api/v4/governance/policies: id is the policy's type
CREATE VIEW governance_policies AS
SELECT
    policy_type AS id,
    policy_type,
    version,
    policy,
    changed_at,
    changed_by,
    adaptation_id,
    'v' || CAST(version AS TEXT) AS etag
FROM juno_policies;

-- GET /api/v4/governance/adaptations
CREATE VIEW governance_adaptations_list AS
SELECT
    id,
    timestamp,
    policy_type,
    old_policy,
    new_policy,
    adaptation_reason,
    effectiveness_score,
    rollback_at,
    CASE WHEN rollback_at IS NULL THEN 'active' ELSE 'rolled_back' END AS status
FROM governance_adaptations;
