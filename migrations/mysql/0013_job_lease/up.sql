-- Which process does what only one should do at a time. `until` is in the database's own time; `fence` grows
-- whenever the holder changes.
CREATE TABLE IF NOT EXISTS job_lease (
    name VARCHAR(64) NOT NULL PRIMARY KEY,
    holder VARCHAR(64) NOT NULL,
    until BIGINT NOT NULL,
    fence BIGINT NOT NULL
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4 COLLATE = utf8mb4_bin;
