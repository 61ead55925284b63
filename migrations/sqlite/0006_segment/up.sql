-- Runs of unchanged counts that are over. Time between two runs of a pool that exceeds what an
-- observation speaks for is a gap.
CREATE TABLE IF NOT EXISTS segment (
    pool_id INTEGER NOT NULL REFERENCES pool (id),
    started_at TIMESTAMP NOT NULL,
    last_seen_at TIMESTAMP NOT NULL,
    total INTEGER NULL,
    free INTEGER NOT NULL,
    PRIMARY KEY (pool_id, started_at)
) WITHOUT ROWID;
