-- Changes of units: one row per event of scaling_events that scaling_execute made, with what its verifier needs.
-- state: ordered, applied, ready, not_ready, failed, interrupted, verified, unseen.
CREATE TABLE juno_scaling_executions (
  event_id UUID PRIMARY KEY,
  plan_id UUID,
  executor VARCHAR(30) NOT NULL,
  target VARCHAR(253) NOT NULL,
  service VARCHAR(253) NOT NULL,
  from_units INTEGER NOT NULL,
  to_units INTEGER NOT NULL,
  state VARCHAR(20) NOT NULL,
  ordered_at TIMESTAMPTZ NOT NULL,
  applied_at TIMESTAMPTZ,
  watched_from TIMESTAMPTZ NOT NULL,
  watched_until TIMESTAMPTZ NOT NULL,
  step_s INTEGER NOT NULL,
  demand JSONB NOT NULL,
  predicted JSONB NOT NULL,
  cost_per_hour DOUBLE PRECISION
);
