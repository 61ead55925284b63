-- Attempts to get units of a pool that a source reported. `outcome` is `succeeded` or `failed`, `code` what the
-- provider said if the source passed it on. `revision` is that of the source when the attempt was taken in, so
-- that readers can ask for what is new.
CREATE TABLE attempt (
    pool_id INTEGER NOT NULL,
    at BIGINT NOT NULL,
    units INTEGER NOT NULL,
    outcome TEXT NOT NULL,
    code TEXT NULL,
    source_id INTEGER NOT NULL,
    revision BIGINT NOT NULL,
    PRIMARY KEY (pool_id, at, units)
) WITHOUT ROWID;
CREATE INDEX attempt_changes ON attempt (source_id, revision);
CREATE INDEX attempt_at ON attempt (at);
