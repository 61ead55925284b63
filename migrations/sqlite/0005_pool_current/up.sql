-- The run of unchanged counts that is still going on: the one row per pool that is written often.
-- `total` is NULL where the source says only yes or no; `free` is then 1 or 0.
CREATE TABLE IF NOT EXISTS pool_current (
    pool_id INTEGER NOT NULL PRIMARY KEY REFERENCES pool (id),
    source_id INTEGER NOT NULL REFERENCES source (id),
    revision BIGINT NOT NULL,
    started_at TIMESTAMP NOT NULL,
    last_seen_at TIMESTAMP NOT NULL,
    total INTEGER NULL,
    free INTEGER NOT NULL
);
CREATE INDEX IF NOT EXISTS pool_current_changes ON pool_current (source_id, revision);
