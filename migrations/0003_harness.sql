-- Groups of tasks that a version shows as one column, as JSON; and results of other programs beside a sweep's own.
ALTER TABLE sweep_versions ADD COLUMN task_groups TEXT NOT NULL DEFAULT '[]';

CREATE TABLE imports (
    id INTEGER PRIMARY KEY,
    sweep_id BIGINT NOT NULL REFERENCES sweeps (id),
    label TEXT NOT NULL,
    source TEXT NOT NULL,
    harness TEXT NOT NULL,
    digest TEXT NOT NULL,
    created_ms BIGINT NOT NULL,
    UNIQUE (sweep_id, label)
);

CREATE TABLE import_scores (
    import_id BIGINT NOT NULL REFERENCES imports (id),
    task TEXT NOT NULL,
    metric TEXT NOT NULL,
    value DOUBLE PRECISION NOT NULL,
    stderr DOUBLE PRECISION,
    documents BIGINT NOT NULL,
    PRIMARY KEY (import_id, task, metric)
);

-- Per-document results, as in `documents`.
CREATE TABLE import_documents (
    import_id BIGINT NOT NULL REFERENCES imports (id),
    task TEXT NOT NULL,
    document BIGINT NOT NULL,
    requests TEXT NOT NULL,
    metrics TEXT NOT NULL,
    PRIMARY KEY (import_id, task, document)
);
