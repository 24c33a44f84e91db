-- Calls for people: one row per incident that was escalated, delivered to the address of JUNO_ESCALATION_URL.
-- state: waiting, delivered, failed.
CREATE TABLE juno_escalations (
  incident_id UUID PRIMARY KEY,
  escalated_at TIMESTAMPTZ NOT NULL,
  reason TEXT,
  state VARCHAR(20) NOT NULL,
  tries INTEGER NOT NULL,
  next_try_at TIMESTAMPTZ NOT NULL,
  delivered_at TIMESTAMPTZ,
  error TEXT
);
