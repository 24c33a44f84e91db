-- Services that are scaled automatically: written by scaling_autoscale; the loop writes the last decision of each beside it.
-- Changes of units are superseded too, in juno_scaling_executions: another one of the same target came before they were ready.
CREATE TABLE juno_autoscaled (
  service VARCHAR(253) PRIMARY KEY,
  enabled BOOLEAN NOT NULL,
  executor VARCHAR(30) NOT NULL,
  target VARCHAR(253) NOT NULL,
  request JSONB NOT NULL,
  changed_at TIMESTAMPTZ NOT NULL,
  changed_by VARCHAR(63) NOT NULL,
  decided_at TIMESTAMPTZ,
  decision JSONB
);
