-- Knobs that operations_optimize tries on a service before anybody relies on them: in its shadow, where they decide nothing, or as a
-- canary, where they decide a share. What they were measured to bring is in the parameters of the row in optimization_history.
CREATE TABLE juno_optimization_trials (
  optimization_id UUID PRIMARY KEY,
  service VARCHAR(253) NOT NULL,
  evaluation VARCHAR(10) NOT NULL,
  state VARCHAR(12) NOT NULL,
  knobs JSONB NOT NULL,
  in_force JSONB,
  request JSONB NOT NULL,
  requested_by VARCHAR(63) NOT NULL,
  began_at TIMESTAMPTZ NOT NULL,
  ends_at TIMESTAMPTZ NOT NULL
);
