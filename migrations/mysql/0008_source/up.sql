-- Who reports. `revision` grows by one with each batch, under the lock of this row, so that readers
-- can ask for what changed since the revision they know. Times are milliseconds since the Unix epoch, UTC,
-- here and in the tables that follow.
CREATE TABLE IF NOT EXISTS source (
    id INTEGER NOT NULL AUTO_INCREMENT PRIMARY KEY,
    name VARCHAR(128) NOT NULL,
    expected_interval_s INTEGER NOT NULL,
    revision BIGINT NOT NULL,
    last_seen BIGINT NOT NULL,
    UNIQUE KEY source_name (name)
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4 COLLATE = utf8mb4_bin;
