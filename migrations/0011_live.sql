-- What each slot of a running worker uses: one row a slot, replaced every few seconds and removed when its worker ends. `used` is the part
-- of the slot's cores, or of the GPU's time; memory in bytes, temperature in °C, power in W.
CREATE TABLE slot_use (
    owner TEXT NOT NULL,
    device TEXT NOT NULL,
    sampled_ms BIGINT NOT NULL,
    used DOUBLE PRECISION,
    memory BIGINT NOT NULL,
    total_memory BIGINT NOT NULL,
    temperature DOUBLE PRECISION,
    power DOUBLE PRECISION,
    PRIMARY KEY (owner, device)
);
