-- What users did to the queue: who, from where, to which jobs, and what those were before. `loragrid undo` takes the last of them back.
CREATE TABLE operations (
    id INTEGER PRIMARY KEY,
    at_ms BIGINT NOT NULL,
    -- USER@HOST.
    who TEXT NOT NULL,
    -- command, watch or page.
    origin TEXT NOT NULL,
    kind TEXT NOT NULL,
    -- The sweep or job as it was named.
    subject TEXT NOT NULL,
    -- Jobs with their states before, and what else is needed to take it back, as JSON.
    before TEXT NOT NULL,
    undone_ms BIGINT
);
