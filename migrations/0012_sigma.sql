-- Sigma rules as they were read: each document of a file is a row, and a file takes the place of what it was before.
-- kind: rule, correlation, filter. id is that of the rule, or its title where it has none.
CREATE TABLE juno_sigma_rules (
  source_file TEXT NOT NULL,
  position INTEGER NOT NULL,
  id TEXT NOT NULL,
  kind VARCHAR(12) NOT NULL,
  title TEXT NOT NULL,
  level VARCHAR(13),
  status VARCHAR(12),
  tags JSONB NOT NULL,
  techniques JSONB NOT NULL,
  yaml TEXT NOT NULL,
  loaded_at TIMESTAMPTZ NOT NULL,
  PRIMARY KEY (source_file, position)
);
