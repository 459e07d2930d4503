-- The queue of several machines, and what attempts leave until it is brought home into each machine's own file (docs/clusters.md).
-- Rows that are brought home say in which transaction they changed: whoever reads asks for those since the oldest transaction that was
-- open when it read last.
CREATE TABLE server_identity (id TEXT PRIMARY KEY);
INSERT INTO server_identity (id) VALUES (md5(random()::text || clock_timestamp()::text));

CREATE FUNCTION note_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW.changed := pg_current_xact_id();
    RETURN NEW;
END $$;

-- A removed sweep stays as a row that says so; one of the same name that is submitted later is another row.
CREATE TABLE sweeps (
    id BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name TEXT NOT NULL,
    created_ms BIGINT NOT NULL,
    is_removed BOOLEAN NOT NULL DEFAULT FALSE,
    changed XID8 NOT NULL DEFAULT pg_current_xact_id()
);
CREATE UNIQUE INDEX sweeps_by_name ON sweeps (name) WHERE NOT is_removed;

-- `rows`: what the version is in the tables of a file, as JSON.
CREATE TABLE sweep_versions (
    sweep_id BIGINT NOT NULL REFERENCES sweeps (id),
    version BIGINT NOT NULL,
    rows TEXT NOT NULL,
    changed XID8 NOT NULL DEFAULT pg_current_xact_id(),
    PRIMARY KEY (sweep_id, version)
);

-- `facts`: what of a job never changes, as JSON. `score_keys`: of all scores that sweeps want.
CREATE TABLE jobs (
    id TEXT PRIMARY KEY,
    place BIGINT GENERATED ALWAYS AS IDENTITY,
    subject TEXT NOT NULL UNIQUE,
    state TEXT NOT NULL
        CHECK (state IN ('queued', 'running', 'paused', 'done', 'failed', 'diverged', 'cancelled')),
    attempt BIGINT NOT NULL DEFAULT 0,
    reason TEXT,
    facts TEXT NOT NULL,
    job_order TEXT NOT NULL,
    score_keys TEXT[] NOT NULL,
    revision BIGINT NOT NULL DEFAULT 1,
    wanted BIGINT NOT NULL,
    changed XID8 NOT NULL DEFAULT pg_current_xact_id()
);
CREATE INDEX jobs_by_change ON jobs (changed);
CREATE INDEX active_jobs ON jobs (place) WHERE state IN ('queued', 'running');
CREATE INDEX running_jobs ON jobs (id) WHERE state = 'running';

-- Workers that wait are told of what they may do now, and of what users took from them; that others claim and end jobs is not news.
CREATE FUNCTION tell_workers() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_notify('loragrid', '');
    RETURN NULL;
END $$;
CREATE TRIGGER jobs_changed BEFORE UPDATE ON jobs FOR EACH ROW EXECUTE FUNCTION note_change();
CREATE TRIGGER jobs_told AFTER INSERT OR UPDATE ON jobs FOR EACH ROW
    WHEN (NEW.state IN ('queued', 'paused', 'cancelled')) EXECUTE FUNCTION tell_workers();

-- `beat_at` is the server's clock: a lease is judged by it alone. `claimed_by` and `closed_by` name the client's step that did it: one whose
-- connection broke while it committed asks whether it did.
CREATE TABLE job_attempts (
    job_id TEXT NOT NULL REFERENCES jobs (id),
    attempt BIGINT NOT NULL,
    owner TEXT NOT NULL,
    device TEXT NOT NULL,
    threads BIGINT NOT NULL,
    token_budget BIGINT NOT NULL,
    log TEXT NOT NULL,
    started_ms BIGINT NOT NULL,
    beat BIGINT NOT NULL DEFAULT 0,
    beat_at TIMESTAMPTZ NOT NULL DEFAULT clock_timestamp(),
    ended_ms BIGINT,
    outcome TEXT,
    reason TEXT,
    seconds DOUBLE PRECISION,
    reach BIGINT,
    claimed_by TEXT NOT NULL,
    closed_by TEXT,
    changed XID8 NOT NULL DEFAULT pg_current_xact_id(),
    PRIMARY KEY (job_id, attempt)
);
CREATE INDEX open_attempts ON job_attempts (owner) WHERE ended_ms IS NULL;
CREATE INDEX attempts_by_change ON job_attempts (changed);
CREATE TRIGGER attempts_changed BEFORE UPDATE ON job_attempts FOR EACH ROW EXECUTE FUNCTION note_change();

-- Results, each as JSON. A point, a document or a sample that is recorded again is replaced.
CREATE TABLE trainings (
    subject TEXT PRIMARY KEY,
    record TEXT NOT NULL,
    removed TEXT,
    changed XID8 NOT NULL DEFAULT pg_current_xact_id()
);
CREATE TABLE curve_points (
    subject TEXT NOT NULL,
    step BIGINT NOT NULL,
    record TEXT NOT NULL,
    changed XID8 NOT NULL DEFAULT pg_current_xact_id(),
    PRIMARY KEY (subject, step)
);
CREATE TABLE scored_documents (
    score_key TEXT NOT NULL,
    document BIGINT NOT NULL,
    record TEXT NOT NULL,
    changed XID8 NOT NULL DEFAULT pg_current_xact_id(),
    PRIMARY KEY (score_key, document)
);
CREATE TABLE scores (
    score_key TEXT PRIMARY KEY,
    subject TEXT NOT NULL,
    record TEXT NOT NULL,
    changed XID8 NOT NULL DEFAULT pg_current_xact_id()
);
CREATE INDEX scores_by_subject ON scores (subject);
CREATE TABLE samples (
    subject TEXT NOT NULL,
    sample_key TEXT NOT NULL,
    record TEXT NOT NULL,
    changed XID8 NOT NULL DEFAULT pg_current_xact_id(),
    PRIMARY KEY (subject, sample_key)
);
CREATE INDEX trainings_by_change ON trainings (changed);
CREATE INDEX curve_points_by_change ON curve_points (changed);
CREATE INDEX scored_documents_by_change ON scored_documents (changed);
CREATE INDEX scores_by_change ON scores (changed);
CREATE INDEX samples_by_change ON samples (changed);

CREATE TABLE operations (
    id BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at_ms BIGINT NOT NULL,
    who TEXT NOT NULL,
    origin TEXT NOT NULL,
    kind TEXT NOT NULL,
    subject TEXT NOT NULL,
    before TEXT NOT NULL,
    undone_ms BIGINT,
    changed XID8 NOT NULL DEFAULT pg_current_xact_id()
);
CREATE TRIGGER sweeps_changed BEFORE UPDATE ON sweeps FOR EACH ROW EXECUTE FUNCTION note_change();
CREATE TRIGGER versions_changed BEFORE UPDATE ON sweep_versions FOR EACH ROW EXECUTE FUNCTION note_change();
CREATE TRIGGER trainings_changed BEFORE UPDATE ON trainings FOR EACH ROW EXECUTE FUNCTION note_change();
CREATE TRIGGER curve_points_changed BEFORE UPDATE ON curve_points FOR EACH ROW EXECUTE FUNCTION note_change();
CREATE TRIGGER documents_changed BEFORE UPDATE ON scored_documents FOR EACH ROW EXECUTE FUNCTION note_change();
CREATE TRIGGER scores_changed BEFORE UPDATE ON scores FOR EACH ROW EXECUTE FUNCTION note_change();
CREATE TRIGGER samples_changed BEFORE UPDATE ON samples FOR EACH ROW EXECUTE FUNCTION note_change();
CREATE TRIGGER operations_changed BEFORE UPDATE ON operations FOR EACH ROW EXECUTE FUNCTION note_change();

-- What the slots of workers use, replaced every few seconds.
CREATE TABLE slot_use (
    owner TEXT NOT NULL,
    device TEXT NOT NULL,
    sampled_ms BIGINT NOT NULL,
    used DOUBLE PRECISION,
    memory BIGINT NOT NULL,
    total_memory BIGINT NOT NULL,
    temperature DOUBLE PRECISION,
    power DOUBLE PRECISION,
    PRIMARY KEY (owner, device)
);
