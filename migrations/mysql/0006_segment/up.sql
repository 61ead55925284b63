-- Runs of unchanged counts that are over. Time between two runs of a pool that exceeds what an
-- observation speaks for is a gap. The key leads with the pool and holds the time, so that the
-- table can be partitioned by day without a change of its form.
CREATE TABLE IF NOT EXISTS segment (
    pool_id INTEGER NOT NULL,
    started_at DATETIME(3) NOT NULL,
    last_seen_at DATETIME(3) NOT NULL,
    total INTEGER NULL,
    free INTEGER NOT NULL,
    PRIMARY KEY (pool_id, started_at)
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4;
