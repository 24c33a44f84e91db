-- Fitted models: written by CALL train_threat_model and its kin only.
-- The active version of a name is the one promoted last; features are an array of {"name", "kind"}; checksum is the
-- artefact's CRC-32.
CREATE TABLE juno_models (
  name VARCHAR(63) NOT NULL,
  version INTEGER NOT NULL,
  kind VARCHAR(30) NOT NULL,
  created_at TIMESTAMPTZ NOT NULL,
  promoted_at TIMESTAMPTZ,
  window_start TIMESTAMPTZ,
  window_end TIMESTAMPTZ,
  training_rows BIGINT,
  attack_rows BIGINT,
  features JSONB NOT NULL,
  schema_hash VARCHAR(16) NOT NULL,
  metrics JSONB NOT NULL,
  checksum VARCHAR(8) NOT NULL,
  artefact BYTEA NOT NULL,
  PRIMARY KEY (name, version)
);
