-- What operations need beside the five history tables: written by procedures only.

-- One row before an operation and one after it. hash is the SHA-256 of previous, seq and record, with line feeds between them.
CREATE TABLE juno_audit (
  seq BIGINT PRIMARY KEY,
  id UUID NOT NULL,
  at TIMESTAMPTZ NOT NULL,
  record JSONB NOT NULL,
  previous VARCHAR(64) NOT NULL,
  hash VARCHAR(64) NOT NULL
);

-- state: queued, running, awaiting_approval, succeeded, failed, cancelled.
CREATE TABLE juno_jobs (
  id UUID PRIMARY KEY,
  kind VARCHAR(63) NOT NULL,
  state VARCHAR(20) NOT NULL,
  progress DOUBLE PRECISION NOT NULL,
  created_at TIMESTAMPTZ NOT NULL,
  started_at TIMESTAMPTZ,
  finished_at TIMESTAMPTZ,
  arguments JSONB NOT NULL,
  plan JSONB,
  result JSONB,
  error JSONB,
  actor VARCHAR(63) NOT NULL,
  role VARCHAR(20),
  if_match TEXT,
  request_id TEXT,
  trace_id TEXT,
  approval_id UUID
);

-- state: pending, approved, denied, cancelled.
CREATE TABLE juno_approvals (
  id UUID PRIMARY KEY,
  requested_at TIMESTAMPTZ NOT NULL,
  requested_by VARCHAR(63) NOT NULL,
  operation VARCHAR(63) NOT NULL,
  arguments JSONB NOT NULL,
  plan JSONB,
  reason TEXT NOT NULL,
  state VARCHAR(20) NOT NULL,
  expires_at TIMESTAMPTZ NOT NULL,
  decided_at TIMESTAMPTZ,
  decided_by VARCHAR(63),
  comment TEXT,
  job_id UUID
);

-- name is the SHA-256 of user, operation and key; state: running, answered, interrupted.
CREATE TABLE juno_idempotency (
  name VARCHAR(64) PRIMARY KEY,
  operation VARCHAR(63) NOT NULL,
  actor VARCHAR(63) NOT NULL,
  fingerprint VARCHAR(64) NOT NULL,
  state VARCHAR(20) NOT NULL,
  answer JSONB,
  created_at TIMESTAMPTZ NOT NULL,
  expires_at TIMESTAMPTZ NOT NULL
);

-- The newest row counts.
CREATE TABLE juno_kill_switch (
  id UUID PRIMARY KEY,
  changed_at TIMESTAMPTZ NOT NULL,
  engaged BOOLEAN NOT NULL,
  reason TEXT NOT NULL,
  actor VARCHAR(63) NOT NULL
);

CREATE TABLE juno_maintenance_windows (
  id UUID PRIMARY KEY,
  name VARCHAR(100) NOT NULL,
  service VARCHAR(100),
  freeze BOOLEAN NOT NULL,
  starts_at TIMESTAMPTZ NOT NULL,
  ends_at TIMESTAMPTZ NOT NULL,
  reason TEXT,
  created_by VARCHAR(63) NOT NULL,
  created_at TIMESTAMPTZ NOT NULL,
  cancelled_by VARCHAR(63),
  cancelled_at TIMESTAMPTZ
);

-- The policies that guards read; governance_adaptations says how they came to be so.
CREATE TABLE juno_policies (
  policy_type VARCHAR(50) PRIMARY KEY,
  version INTEGER NOT NULL,
  policy JSONB NOT NULL,
  changed_at TIMESTAMPTZ NOT NULL,
  changed_by VARCHAR(63) NOT NULL,
  adaptation_id UUID
);

INSERT INTO juno_policies (policy_type, version, policy, changed_at, changed_by) VALUES
  ('healing', 1, '{"actions_per_hour": 10, "blast_radius_pct": 20, "cooldown_s": 300, "circuit_failures": 3}', now(), 'juno'),
  ('scaling', 1, '{"step_pct": 50, "replicas_min": 1, "replicas_max": 100, "cooldown_s": 300, "confidence_min": 0.8}', now(), 'juno'),
  ('threats', 1, '{"actions_per_hour": 20, "confidence_min": 0.9, "response_ttl_s": 3600}', now(), 'juno'),
  ('rl', 1, '{"change_pct": 25, "exploration_max": 0.1, "violation_max": 0.001}', now(), 'juno'),
  ('governance', 1, '{"changes_per_day": 10, "step_pct": 25}', now(), 'juno');

-- What happened besides new rows in the history tables: for the stream of events. id is of version 7: the order of events.
CREATE TABLE juno_events (
  id UUID PRIMARY KEY,
  at TIMESTAMPTZ NOT NULL,
  type VARCHAR(30) NOT NULL,
  subject VARCHAR(100) NOT NULL,
  data JSONB NOT NULL
);
