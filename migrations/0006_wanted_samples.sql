-- The samples that a version of a sweep asks for, in its order: another sweep may have asked the same job for others.
CREATE TABLE wanted_samples (
    sweep_id BIGINT NOT NULL,
    version BIGINT NOT NULL,
    position BIGINT NOT NULL,
    sample_key TEXT NOT NULL,
    PRIMARY KEY (sweep_id, version, position)
);
