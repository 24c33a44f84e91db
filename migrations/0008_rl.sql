-- Learned policies and what they learn from.

-- Versions of policies: written by rl_train, rl_policies_promote and rl_policies_rollback only. state: candidate, shadow, canary,
-- active, retired; at most one of a name is active. revision counts the changes of a row; checksum is the artefact's SHA-256;
-- replaced is the version that was active before this one.
CREATE TABLE juno_rl_policies (
  id UUID PRIMARY KEY,
  name VARCHAR(63) NOT NULL,
  version INTEGER NOT NULL,
  algorithm VARCHAR(20) NOT NULL,
  state VARCHAR(20) NOT NULL,
  revision INTEGER NOT NULL,
  scope VARCHAR(100),
  features_schema_hash VARCHAR(8) NOT NULL,
  action_space JSONB NOT NULL,
  hyperparameters JSONB NOT NULL,
  reward JSONB NOT NULL,
  trained_at TIMESTAMPTZ NOT NULL,
  trained_by VARCHAR(63) NOT NULL,
  training_job UUID,
  parent UUID,
  promoted_at TIMESTAMPTZ,
  replaced UUID,
  metrics JSONB NOT NULL,
  checksum VARCHAR(64) NOT NULL,
  artefact BYTEA NOT NULL
);

-- Decisions as they were taken: by whatever takes them. policy is the name that they are taken under, policy_id the version that
-- decided, null where the fixed rule did; state has every feature by name, action the knobs k, hold_s and guard; propensity is the
-- chance that the action was taken with; outcome comes an epoch later: cost, idle, violation, slow, latency, churn.
CREATE TABLE rl_experience (
  id UUID PRIMARY KEY,
  at TIMESTAMPTZ NOT NULL,
  policy VARCHAR(63) NOT NULL,
  policy_id UUID,
  policy_version INTEGER,
  service VARCHAR(100),
  state JSONB NOT NULL,
  action JSONB NOT NULL,
  propensity DOUBLE PRECISION,
  explored BOOLEAN DEFAULT FALSE,
  outcome JSONB,
  reward DOUBLE PRECISION
);
