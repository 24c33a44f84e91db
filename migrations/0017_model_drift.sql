-- How new rows of the source of a threat model score beside its calibration: one row per active version, made anew when another one
-- is promoted. p_values are the newest, in millionths; drift is what is told of them; drifted_at is set while they are too far off.
CREATE TABLE juno_model_drift (
  name VARCHAR(63) PRIMARY KEY,
  version INTEGER NOT NULL,
  since TIMESTAMPTZ NOT NULL,
  seen_until TIMESTAMPTZ NOT NULL,
  p_values JSONB NOT NULL,
  drift JSONB NOT NULL,
  drifted_at TIMESTAMPTZ
);
