-- Samples of what was said of pools, until their hour has passed and they are scored. `uncorrected` is P
-- before the learned correction and `corrected` after it; `n` is the number of units.
CREATE TABLE forecast (
    made BIGINT NOT NULL,
    pool_id INTEGER NOT NULL,
    n INTEGER NOT NULL,
    kind TEXT NOT NULL,
    cell INTEGER NOT NULL,
    uncorrected DOUBLE NOT NULL,
    corrected DOUBLE NOT NULL,
    level TEXT NOT NULL,
    PRIMARY KEY (made, pool_id, n)
) WITHOUT ROWID;
