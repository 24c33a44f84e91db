-- What is done to other systems: one row per order, and one per remediation.

-- state: intended, done, failed, interrupted. The row is there before the order is given.
CREATE TABLE juno_intents (
  id UUID PRIMARY KEY,
  at TIMESTAMPTZ NOT NULL,
  operation VARCHAR(63) NOT NULL,
  actor VARCHAR(63) NOT NULL,
  job_id UUID,
  subject UUID,
  executor VARCHAR(30) NOT NULL,
  target VARCHAR(253) NOT NULL,
  action VARCHAR(30) NOT NULL,
  params JSONB,
  is_undo BOOLEAN NOT NULL,
  state VARCHAR(20) NOT NULL,
  ended_at TIMESTAMPTZ,
  effect JSONB,
  error TEXT
);

-- state: running, succeeded, failed, interrupted. What guards count and runbooks learn from.
CREATE TABLE juno_remediations (
  id UUID PRIMARY KEY,
  incident_id UUID NOT NULL,
  runbook VARCHAR(63) NOT NULL,
  cause VARCHAR(63),
  executor VARCHAR(30) NOT NULL,
  target VARCHAR(253) NOT NULL,
  actor VARCHAR(63) NOT NULL,
  began_at TIMESTAMPTZ NOT NULL,
  cooldown_until TIMESTAMPTZ NOT NULL,
  ended_at TIMESTAMPTZ,
  state VARCHAR(20) NOT NULL
);
