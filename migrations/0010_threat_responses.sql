-- What was done about threats: written by threats_respond, taken back when it expires. evidence is what was known before; given and
-- effect are the order to an actuator and what it did.
-- state: ordered, active, done, expired, undone, failed, uncertain, undo_failed. An uncertain one may have had its effect.
CREATE TABLE juno_threat_responses (
  id UUID PRIMARY KEY,
  threat_event_id UUID NOT NULL,
  at TIMESTAMPTZ NOT NULL,
  action VARCHAR(30) NOT NULL,
  executor VARCHAR(30),
  target VARCHAR(253) NOT NULL,
  state VARCHAR(20) NOT NULL,
  actor VARCHAR(63) NOT NULL,
  approved_by VARCHAR(63),
  contained_at TIMESTAMPTZ,
  expires_at TIMESTAMPTZ,
  undone_at TIMESTAMPTZ,
  undo_attempts INTEGER NOT NULL,
  given JSONB,
  effect JSONB,
  evidence JSONB NOT NULL,
  evidence_sha256 VARCHAR(64) NOT NULL,
  error TEXT
);

-- Whom juno's own doors refuse: the id is that of the response. kind: address, user.
CREATE TABLE juno_blocks (
  id UUID PRIMARY KEY,
  kind VARCHAR(10) NOT NULL,
  value VARCHAR(253) NOT NULL,
  created_at TIMESTAMPTZ NOT NULL,
  created_by VARCHAR(63) NOT NULL,
  expires_at TIMESTAMPTZ NOT NULL
);

-- What feeds know of attackers: each load of a feed takes the place of the one before. kind: ip, domain, sha256, user.
CREATE TABLE juno_indicators (
  kind VARCHAR(10) NOT NULL,
  value TEXT NOT NULL,
  feed VARCHAR(253) NOT NULL,
  confidence DOUBLE PRECISION NOT NULL,
  description TEXT,
  valid_until TIMESTAMPTZ,
  loaded_at TIMESTAMPTZ NOT NULL,
  PRIMARY KEY (kind, value, feed)
);
