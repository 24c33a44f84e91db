-- Plans of capacity: written by scaling_plan only. steps, expected and warnings as capacity planning gave them.
CREATE TABLE juno_scaling_plans (
  id UUID PRIMARY KEY,
  created_at TIMESTAMPTZ NOT NULL,
  created_by VARCHAR(63) NOT NULL,
  service VARCHAR(100) NOT NULL,
  strategy VARCHAR(20) NOT NULL,
  request JSONB NOT NULL,
  steps JSONB NOT NULL,
  expected JSONB NOT NULL,
  confidence DOUBLE PRECISION NOT NULL,
  advisory BOOLEAN NOT NULL,
  binding_dimension VARCHAR(20) NOT NULL,
  warnings JSONB NOT NULL,
  expires_at TIMESTAMPTZ NOT NULL
);
