-- Knobs of the scaling rule of a service that operations_optimize put in force; scaling_autoscale takes them back when it declares
-- the service anew.
CREATE TABLE juno_scaling_knobs (
  service VARCHAR(253) PRIMARY KEY,
  knobs JSONB NOT NULL,
  optimization_id UUID NOT NULL,
  applied_at TIMESTAMPTZ NOT NULL,
  applied_by VARCHAR(63) NOT NULL
);
