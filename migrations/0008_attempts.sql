-- How long an attempt took, by a clock that nobody sets; absent where the process that ran it did not end it.
ALTER TABLE job_attempts ADD COLUMN seconds DOUBLE PRECISION;
DROP VIEW attempts;
CREATE VIEW attempts AS
SELECT job_id, attempt, owner, device, threads, token_budget, log, started_ms, ended_ms, outcome, reason, seconds FROM job_attempts;

-- A score of another program may be no number.
CREATE TABLE import_scores_new (
    import_id BIGINT NOT NULL REFERENCES imports (id),
    task TEXT NOT NULL,
    metric TEXT NOT NULL,
    value DOUBLE PRECISION,
    stderr DOUBLE PRECISION,
    documents BIGINT NOT NULL,
    PRIMARY KEY (import_id, task, metric)
);
INSERT INTO import_scores_new (import_id, task, metric, value, stderr, documents)
    SELECT import_id, task, metric, value, stderr, documents FROM import_scores;
DROP TABLE import_scores;
ALTER TABLE import_scores_new RENAME TO import_scores;

-- What was resolved at submission for whoever plans the version again, as a JSON list of keys and values: train.dtype = "auto".
ALTER TABLE sweep_versions ADD COLUMN pinned TEXT NOT NULL DEFAULT '[]';
