-- What keeps a source from seeing its pools as they are: a row for each source whose latest batch said so.
-- `since` is when a batch first had a problem with this code.
CREATE TABLE IF NOT EXISTS source_problem (
    source_id INTEGER NOT NULL PRIMARY KEY,
    code VARCHAR(64) NOT NULL,
    detail VARCHAR(500) NOT NULL,
    since BIGINT NOT NULL
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4 COLLATE = utf8mb4_bin;
-- A problem is the reason for a change of levels, and its detail the sentence.
ALTER TABLE level_change MODIFY COLUMN sentence VARCHAR(500) NOT NULL;
