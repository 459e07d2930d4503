-- Which database this is: the results folder beside it names it, so that two databases never share a folder.
CREATE TABLE database_identity (id TEXT PRIMARY KEY);
INSERT INTO database_identity (id) VALUES (lower(hex(randomblob(16))));

-- How far a job had come when the attempt ended: optimizer steps and scored documents.
ALTER TABLE job_attempts ADD COLUMN reach BIGINT;

-- SHA-256 of an adapter's weights.
ALTER TABLE trainings ADD COLUMN adapter_digest TEXT;

-- What `plan` warned of, as a JSON list; who submitted the version, as a user id.
ALTER TABLE sweep_versions ADD COLUMN warnings TEXT NOT NULL DEFAULT '[]';
ALTER TABLE sweep_versions ADD COLUMN submitter BIGINT;

-- The version of the arithmetic that a job's results are of; those of before are 1.
ALTER TABLE jobs ADD COLUMN numerics BIGINT NOT NULL DEFAULT 1;

-- Files are named from the folder of the database, so that it can be moved and copied.
UPDATE trainings SET adapter = 'adapters/' || subject;
UPDATE job_attempts SET log = 'logs/' || replace(log, rtrim(log, replace(log, '/', '')), '') WHERE log LIKE '/%';
