-- Forecasts that operations_predict was asked to keep: a row for each series; result is the answer about it.
CREATE TABLE juno_forecasts (
  id UUID PRIMARY KEY,
  created_at TIMESTAMPTZ NOT NULL,
  created_by VARCHAR(63) NOT NULL,
  target JSONB NOT NULL,
  as_of TIMESTAMPTZ NOT NULL,
  step_s DOUBLE PRECISION NOT NULL,
  horizon_s DOUBLE PRECISION NOT NULL,
  model VARCHAR(20) NOT NULL,
  result JSONB NOT NULL
);

-- Which runbooks the loop runs at one level of risk more without asking, each by its name: 1, or 0 where that was taken back.
INSERT INTO juno_policies (policy_type, version, policy, changed_at, changed_by) VALUES ('approvals', 1, '{}', now(), 'juno');
