-- What a job needs to run, as versioned JSON: whoever claims it reads no sweep file. Jobs of an earlier release get theirs when a
-- worker plans their sweep again.
ALTER TABLE jobs ADD COLUMN job_order TEXT;
-- Counts the changes of the order, so that workers read only what is new.
ALTER TABLE jobs ADD COLUMN revision BIGINT NOT NULL DEFAULT 0;
-- How many sweeps want the job: one that none wants is not run.
ALTER TABLE jobs ADD COLUMN wanted BIGINT NOT NULL DEFAULT 0;
