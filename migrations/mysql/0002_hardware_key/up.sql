-- What observations are about. The hash of provider and name makes the pair unique, which
-- `hardware` is not; a row of `hardware` is matched to these in memory, aliases and families included.
CREATE TABLE IF NOT EXISTS hardware_key (
    id INTEGER NOT NULL AUTO_INCREMENT PRIMARY KEY,
    key_hash BINARY(32) NOT NULL,
    provider VARCHAR(128) NOT NULL,
    name VARCHAR(128) NOT NULL,
    UNIQUE KEY hardware_key_hash (key_hash)
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4 COLLATE = utf8mb4_bin;
