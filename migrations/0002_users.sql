-- Users: written by CREATE USER, ALTER USER, DROP USER, GRANT and REVOKE only.
-- verifier is PostgreSQL's SCRAM-SHA-256$…, never a password; roles are names by comma.
CREATE TABLE juno_users (
  name VARCHAR(63) PRIMARY KEY,
  login BOOLEAN NOT NULL,
  verifier TEXT,
  roles TEXT NOT NULL
);
