-- Sweeps and the versions of their files.
CREATE TABLE sweeps (
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    created_ms BIGINT NOT NULL
);

CREATE TABLE sweep_versions (
    sweep_id BIGINT NOT NULL REFERENCES sweeps (id),
    version BIGINT NOT NULL,
    text TEXT NOT NULL,
    axes TEXT NOT NULL,
    tasks TEXT NOT NULL,
    objective_task TEXT,
    objective_metric TEXT,
    created_ms BIGINT NOT NULL,
    PRIMARY KEY (sweep_id, version)
);

-- A job is one subject: the base model or an adapter. Sweeps share equal jobs.
CREATE TABLE jobs (
    id TEXT PRIMARY KEY,
    subject TEXT NOT NULL UNIQUE,
    kind TEXT NOT NULL CHECK (kind IN ('base', 'train')),
    state TEXT NOT NULL CHECK (state IN ('queued', 'running', 'done', 'failed', 'diverged')),
    attempt BIGINT NOT NULL DEFAULT 0,
    reason TEXT,
    model_identity TEXT NOT NULL,
    dtype TEXT NOT NULL,
    settings TEXT NOT NULL,
    trainable BIGINT NOT NULL,
    created_ms BIGINT NOT NULL
);

CREATE INDEX jobs_by_state ON jobs (state);

CREATE TABLE sweep_jobs (
    sweep_id BIGINT NOT NULL,
    version BIGINT NOT NULL,
    position BIGINT NOT NULL,
    job_id TEXT NOT NULL REFERENCES jobs (id),
    label TEXT NOT NULL,
    PRIMARY KEY (sweep_id, version, position),
    FOREIGN KEY (sweep_id, version) REFERENCES sweep_versions (sweep_id, version)
);

-- The scores that a version wants of a job, in the order of its tasks.
CREATE TABLE wanted_scores (
    sweep_id BIGINT NOT NULL,
    version BIGINT NOT NULL,
    job_id TEXT NOT NULL REFERENCES jobs (id),
    task_position BIGINT NOT NULL,
    score_key TEXT NOT NULL,
    PRIMARY KEY (sweep_id, version, job_id, task_position)
);

-- Each try at a job. `owner` is host, process and its start time; `attempt` fences late messages.
CREATE TABLE attempts (
    job_id TEXT NOT NULL REFERENCES jobs (id),
    attempt BIGINT NOT NULL,
    owner TEXT NOT NULL,
    device TEXT NOT NULL,
    threads BIGINT NOT NULL,
    token_budget BIGINT NOT NULL,
    log TEXT NOT NULL,
    started_ms BIGINT NOT NULL,
    ended_ms BIGINT,
    outcome TEXT,
    reason TEXT,
    PRIMARY KEY (job_id, attempt)
);

-- A finished training.
CREATE TABLE trainings (
    subject TEXT PRIMARY KEY REFERENCES jobs (subject),
    adapter TEXT NOT NULL,
    steps BIGINT NOT NULL,
    tokens BIGINT NOT NULL,
    seconds DOUBLE PRECISION NOT NULL,
    peak_memory BIGINT NOT NULL,
    first_loss DOUBLE PRECISION,
    last_loss DOUBLE PRECISION,
    finished_ms BIGINT NOT NULL
);

-- Points of the loss curve; a later attempt replaces the points of an earlier one.
CREATE TABLE curves (
    subject TEXT NOT NULL,
    step BIGINT NOT NULL,
    loss DOUBLE PRECISION,
    learning_rate DOUBLE PRECISION NOT NULL,
    tokens BIGINT NOT NULL,
    seconds DOUBLE PRECISION NOT NULL,
    PRIMARY KEY (subject, step)
);

-- The scores of a subject on a task.
CREATE TABLE scores (
    score_key TEXT NOT NULL,
    metric TEXT NOT NULL,
    subject TEXT NOT NULL,
    task TEXT NOT NULL,
    value DOUBLE PRECISION NOT NULL,
    stderr DOUBLE PRECISION,
    documents BIGINT NOT NULL,
    higher_is_better BIGINT NOT NULL,
    PRIMARY KEY (score_key, metric)
);

-- Per-document results: log-likelihoods and metrics as JSON lists.
CREATE TABLE documents (
    score_key TEXT NOT NULL,
    document BIGINT NOT NULL,
    requests TEXT NOT NULL,
    metrics TEXT NOT NULL,
    PRIMARY KEY (score_key, document)
);

-- SHA-256 of files that were read, under what tells that they are unchanged.
CREATE TABLE file_digests (
    device BIGINT NOT NULL,
    inode BIGINT NOT NULL,
    size BIGINT NOT NULL,
    modified_ns BIGINT NOT NULL,
    digest TEXT NOT NULL,
    PRIMARY KEY (device, inode)
);
