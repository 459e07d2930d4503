-- What trackers outside (MLflow, TensorBoard, Trackio) were told of a job: up to which step, how many scores, whether that it ended. What
-- they were not told yet is in the other tables, and is sent later.
CREATE TABLE tracked_jobs (
    tracker TEXT NOT NULL,
    target TEXT NOT NULL,
    sweep TEXT NOT NULL,
    job_id TEXT NOT NULL,
    run TEXT NOT NULL,
    step BIGINT NOT NULL,
    scores BIGINT NOT NULL,
    ended TEXT NOT NULL,
    PRIMARY KEY (tracker, target, sweep, job_id)
);
