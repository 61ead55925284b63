-- The level of every supply when changes were last looked for, which is what the next look compares with. One
-- row has the supplies whose id begins with the byte `bucket`: there are 256 rows for any number of supplies.
CREATE TABLE IF NOT EXISTS known_level (
    bucket INTEGER NOT NULL PRIMARY KEY,
    levels MEDIUMBLOB NOT NULL
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4 COLLATE = utf8mb4_bin;
