-- The segment of unchanged observations that is open in each pool, and what its whole past was folded into:
-- `states` are those at `started`, in the form that libs/availability documents, so an observation that
-- confirms the segment moves `last_seen` alone. `total` is NULL where the source says only yes or no; `free`
-- is then 1 or 0.
CREATE TABLE IF NOT EXISTS pool_state (
    pool_id INTEGER NOT NULL PRIMARY KEY,
    source_id INTEGER NOT NULL,
    revision BIGINT NOT NULL,
    interval_s INTEGER NOT NULL,
    started BIGINT NOT NULL,
    last_seen BIGINT NOT NULL,
    total INTEGER NULL,
    free INTEGER NOT NULL,
    states BLOB NOT NULL,
    KEY pool_state_changes (source_id, revision)
) ENGINE = InnoDB;
