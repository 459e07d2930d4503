-- Results are read by task and metric, by subject, and by users: tables get the order in which leaderboards are read, and views
-- get the plain names. docs/schema.md describes the views.

-- The task of each place in a version's list with its metrics, and its wanted scores in the order of a leaderboard's columns.
CREATE TABLE sweep_tasks (
    sweep_id BIGINT NOT NULL,
    version BIGINT NOT NULL,
    position BIGINT NOT NULL,
    task TEXT NOT NULL,
    metrics TEXT NOT NULL,
    PRIMARY KEY (sweep_id, version, position)
);
INSERT INTO sweep_tasks (sweep_id, version, position, task, metrics)
    SELECT w.sweep_id, w.version, w.task_position, MIN(c.task), json_group_array(DISTINCT c.metric) FROM wanted_scores w
    JOIN scores c ON c.score_key = w.score_key GROUP BY w.sweep_id, w.version, w.task_position;

CREATE TABLE wanted_scores_new (
    sweep_id BIGINT NOT NULL,
    version BIGINT NOT NULL,
    task_position BIGINT NOT NULL,
    job_id TEXT NOT NULL REFERENCES jobs (id),
    score_key TEXT NOT NULL,
    PRIMARY KEY (sweep_id, version, task_position, job_id)
) WITHOUT ROWID;
INSERT INTO wanted_scores_new (sweep_id, version, task_position, job_id, score_key)
    SELECT sweep_id, version, task_position, job_id, score_key FROM wanted_scores;
DROP TABLE wanted_scores;
ALTER TABLE wanted_scores_new RENAME TO wanted_scores;

-- A value is absent where it is no number.
CREATE TABLE task_scores (
    task TEXT NOT NULL,
    metric TEXT NOT NULL,
    score_key TEXT NOT NULL,
    subject TEXT NOT NULL,
    value DOUBLE PRECISION,
    stderr DOUBLE PRECISION,
    documents BIGINT NOT NULL,
    higher_is_better BIGINT NOT NULL,
    PRIMARY KEY (task, metric, score_key)
) WITHOUT ROWID;
INSERT INTO task_scores (task, metric, score_key, subject, value, stderr, documents, higher_is_better)
    SELECT task, metric, score_key, subject, value, stderr, documents, higher_is_better FROM scores;
DROP TABLE scores;
CREATE INDEX task_scores_by_subject ON task_scores (subject);
CREATE INDEX task_scores_by_key ON task_scores (score_key, metric);

-- A metric's value of each document, where the score is their mean: pairs of the document's number (u32) and the value (f64),
-- little endian. Scores of before have none; what they are is in their documents.
CREATE TABLE document_values (
    score_key TEXT NOT NULL,
    metric TEXT NOT NULL,
    pairs BLOB NOT NULL,
    PRIMARY KEY (score_key, metric)
);

-- The values of the axes in a job of a sweep, as a JSON object; and what the jobs of a row of the leaderboard have in common: the
-- values without the seed, or the id of an untrained model, which is a row alone.
ALTER TABLE sweep_jobs ADD COLUMN axes TEXT NOT NULL DEFAULT '{}';
ALTER TABLE sweep_jobs ADD COLUMN cell TEXT NOT NULL DEFAULT '{}';
UPDATE sweep_jobs SET axes = (
    SELECT json_group_object(a.value, j.settings -> ('$."' || a.value || '"[0]'))
    FROM jobs j, sweep_versions v, json_each(v.axes) a
    WHERE j.id = sweep_jobs.job_id AND v.sweep_id = sweep_jobs.sweep_id AND v.version = sweep_jobs.version
      AND json_type(j.settings, '$."' || a.value || '"') IS NOT NULL
);

UPDATE sweep_jobs SET cell = iif((SELECT kind FROM jobs WHERE id = job_id) = 'base', job_id, json_remove(axes, '$.seed'));
CREATE INDEX sweep_jobs_by_cell ON sweep_jobs (sweep_id, version, cell, position, job_id);

ALTER TABLE curves RENAME TO curve_points;
ALTER TABLE documents RENAME TO scored_documents;
ALTER TABLE attempts RENAME TO job_attempts;

-- Texts that a subject wrote, asked for by [samples].
CREATE TABLE sample_texts (
    subject TEXT NOT NULL,
    sample_key TEXT NOT NULL,
    position BIGINT NOT NULL,
    prompt TEXT NOT NULL,
    wanted TEXT,
    answer TEXT NOT NULL,
    tokens BIGINT NOT NULL,
    PRIMARY KEY (subject, sample_key)
);

CREATE VIEW runs AS
SELECT s.name AS sweep, v.version, sj.position, j.id AS job_id, sj.label, j.kind, j.state, j.reason,
       (SELECT json_group_object(k.key, k.value -> '$[0]') FROM json_each(j.settings) k) AS settings,
       sj.axes, j.dtype, j.trainable, j.attempt AS attempts, t.steps, t.tokens, t.seconds, t.peak_memory, t.first_loss,
       t.last_loss, t.validation_loss,
       CASE WHEN t.last_losses IS NULL OR t.first_loss IS NULL THEN NULL ELSE t.last_losses <= 0.9 * t.first_loss END
           AS converged,
       t.adapter, t.adapter_removed, j.subject
FROM sweeps s
JOIN (SELECT sweep_id, MAX(version) AS version FROM sweep_versions GROUP BY sweep_id) v ON v.sweep_id = s.id
JOIN sweep_jobs sj ON sj.sweep_id = s.id AND sj.version = v.version
JOIN jobs j ON j.id = sj.job_id
LEFT JOIN trainings t ON t.subject = j.subject;

CREATE VIEW scores AS
SELECT j.id AS job_id, c.task, c.metric, c.value, c.stderr, c.documents, c.higher_is_better, c.score_key
FROM task_scores c JOIN jobs j ON j.subject = c.subject;

CREATE VIEW curves AS
SELECT j.id AS job_id, c.step, c.loss, c.validation_loss, c.learning_rate, c.tokens, c.seconds
FROM curve_points c JOIN jobs j ON j.subject = c.subject;

CREATE VIEW documents AS
SELECT j.id AS job_id, c.task, d.document, d.requests, d.metrics, d.score_key
FROM task_scores c
JOIN jobs j ON j.subject = c.subject
JOIN scored_documents d ON d.score_key = c.score_key
WHERE c.metric = (SELECT MIN(o.metric) FROM task_scores o WHERE o.score_key = c.score_key);

CREATE VIEW attempts AS
SELECT job_id, attempt, owner, device, threads, token_budget, log, started_ms, ended_ms, outcome, reason FROM job_attempts;

CREATE VIEW samples AS
SELECT j.id AS job_id, c.position, c.prompt, c.wanted, c.answer, c.tokens
FROM sample_texts c JOIN jobs j ON j.subject = c.subject;
