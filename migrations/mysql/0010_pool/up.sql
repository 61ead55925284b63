-- One supply of one kind of hardware as one source sees it. `identity` is a hash of the source and of the
-- names as they are compared; the names are spelled here as they were first. `listed` says since when the
-- source has it, which it may never have had if somebody imported its history, and `retired` since when it
-- has it no longer: what the source says of all its pools is about this one between the two.
CREATE TABLE IF NOT EXISTS pool (
    id INTEGER NOT NULL AUTO_INCREMENT PRIMARY KEY,
    identity BINARY(16) NOT NULL,
    source_id INTEGER NOT NULL,
    provider VARCHAR(128) NOT NULL,
    name VARCHAR(128) NOT NULL,
    region VARCHAR(64) NOT NULL,
    zone VARCHAR(64) NOT NULL,
    tier VARCHAR(64) NOT NULL,
    unit VARCHAR(64) NOT NULL,
    listed BIGINT NULL,
    retired BIGINT NULL,
    UNIQUE KEY pool_identity (identity),
    KEY pool_source (source_id)
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4 COLLATE = utf8mb4_bin;
