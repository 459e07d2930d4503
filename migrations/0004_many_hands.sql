-- Jobs can be paused and cancelled; attempts beat while their process lives; a version can be planned again from the database
-- alone. SQLite changes a CHECK only by a new table, and the store's foreign keys are off while it migrates.
CREATE TABLE jobs_new (
    id TEXT PRIMARY KEY,
    subject TEXT NOT NULL UNIQUE,
    kind TEXT NOT NULL CHECK (kind IN ('base', 'train')),
    state TEXT NOT NULL
        CHECK (state IN ('queued', 'running', 'paused', 'done', 'failed', 'diverged', 'cancelled')),
    attempt BIGINT NOT NULL DEFAULT 0,
    reason TEXT,
    model_identity TEXT NOT NULL,
    dtype TEXT NOT NULL,
    settings TEXT NOT NULL,
    trainable BIGINT NOT NULL,
    created_ms BIGINT NOT NULL
);
INSERT INTO jobs_new (id, subject, kind, state, attempt, reason, model_identity, dtype, settings, trainable, created_ms)
    SELECT id, subject, kind, state, attempt, reason, model_identity, dtype, settings, trainable, created_ms FROM jobs;
DROP TABLE jobs;
ALTER TABLE jobs_new RENAME TO jobs;
CREATE INDEX jobs_by_state ON jobs (state);
ALTER TABLE attempts ADD COLUMN beat BIGINT NOT NULL DEFAULT 0;
CREATE INDEX open_attempts ON attempts (owner) WHERE ended_ms IS NULL;
ALTER TABLE sweep_versions ADD COLUMN file TEXT NOT NULL DEFAULT '';
ALTER TABLE sweep_versions ADD COLUMN include_path TEXT;
ALTER TABLE sweep_versions ADD COLUMN overrides TEXT NOT NULL DEFAULT '[]';
-- Why the adapter is no longer on disk, if it is not.
ALTER TABLE trainings ADD COLUMN adapter_removed TEXT;
