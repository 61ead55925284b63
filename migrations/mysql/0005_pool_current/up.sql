-- The run of unchanged counts that is still going on: the one row per pool that is written often.
-- `total` is NULL where the source says only yes or no; `free` is then 1 or 0.
CREATE TABLE IF NOT EXISTS pool_current (
    pool_id INTEGER NOT NULL PRIMARY KEY,
    source_id INTEGER NOT NULL,
    revision BIGINT NOT NULL,
    started_at DATETIME(3) NOT NULL,
    last_seen_at DATETIME(3) NOT NULL,
    total INTEGER NULL,
    free INTEGER NOT NULL,
    KEY pool_current_changes (source_id, revision)
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4;
