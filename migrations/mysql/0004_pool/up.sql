-- One supply of one kind of hardware as one source sees it.
CREATE TABLE IF NOT EXISTS pool (
    id INTEGER NOT NULL AUTO_INCREMENT PRIMARY KEY,
    hardware_key_id INTEGER NOT NULL,
    region VARCHAR(64) NOT NULL,
    zone VARCHAR(64) NOT NULL,
    tier VARCHAR(64) NOT NULL,
    unit VARCHAR(64) NOT NULL,
    source_id INTEGER NOT NULL,
    UNIQUE KEY pool_identity (hardware_key_id, region, zone, tier, unit, source_id)
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4 COLLATE = utf8mb4_bin;
