-- Detectors: written by CREATE DETECTOR and DROP DETECTOR only. false_alarms is a budget per series and day.
CREATE TABLE juno_detectors (
  name VARCHAR(63) PRIMARY KEY,
  table_name VARCHAR(63) NOT NULL,
  column_name VARCHAR(63) NOT NULL,
  warm_up INTEGER NOT NULL,
  false_alarms DOUBLE PRECISION NOT NULL,
  created_at TIMESTAMPTZ NOT NULL
);
