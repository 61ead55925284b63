-- Segments that are closed, for history; levels do not need them. They are cut at midnight UTC, and `day`,
-- counted from the Unix epoch, leads the key: what is too old is deleted day by day, and one after the other
-- in the order in which it lies on the disk.
CREATE TABLE IF NOT EXISTS segment (
    day INTEGER NOT NULL,
    pool_id INTEGER NOT NULL,
    started BIGINT NOT NULL,
    last_seen BIGINT NOT NULL,
    total INTEGER NULL,
    free INTEGER NOT NULL,
    PRIMARY KEY (day, pool_id, started)
) ENGINE = InnoDB;
