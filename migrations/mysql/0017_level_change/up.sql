-- Changes of what is said of a supply for one unit, in the order in which they were found; only the latest
-- are kept. The names are those that were shown, `source` is who spoke, `sentence` one reason for the new
-- level, and `probability` is NULL where it was not known.
CREATE TABLE IF NOT EXISTS level_change (
    id BIGINT NOT NULL AUTO_INCREMENT PRIMARY KEY,
    at BIGINT NOT NULL,
    provider VARCHAR(128) NOT NULL,
    name VARCHAR(128) NOT NULL,
    region VARCHAR(64) NOT NULL,
    zone VARCHAR(64) NOT NULL,
    tier VARCHAR(64) NOT NULL,
    unit VARCHAR(64) NOT NULL,
    source VARCHAR(128) NOT NULL,
    from_level VARCHAR(16) NOT NULL,
    to_level VARCHAR(16) NOT NULL,
    probability DOUBLE NULL,
    sentence VARCHAR(255) NOT NULL
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4 COLLATE = utf8mb4_bin;
