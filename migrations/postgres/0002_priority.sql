-- The priority of a job's order, by which workers choose whose orders they read first.
ALTER TABLE jobs ADD COLUMN priority BIGINT NOT NULL DEFAULT 0;
UPDATE jobs SET priority = COALESCE(
    (SELECT MAX((w.value ->> 'priority')::bigint) FROM json_each(job_order::json -> 'sweeps') w), 0);
