-- Attempts to get units of a pool that a source reported. `outcome` is `succeeded` or `failed`, `code` what the
-- provider said if the source passed it on. `revision` is that of the source when the attempt was taken in, so
-- that readers can ask for what is new.
CREATE TABLE IF NOT EXISTS attempt (
    pool_id INTEGER NOT NULL,
    at BIGINT NOT NULL,
    units INTEGER NOT NULL,
    outcome VARCHAR(16) NOT NULL,
    code VARCHAR(64) NULL,
    source_id INTEGER NOT NULL,
    revision BIGINT NOT NULL,
    PRIMARY KEY (pool_id, at, units),
    KEY attempt_changes (source_id, revision),
    KEY attempt_at (at)
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4 COLLATE = utf8mb4_bin;
