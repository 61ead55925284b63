-- Notes that the table `hardware` is going to be made by the next migration, so that default rows are
-- put into it once, and never into a table that was there before. It comes first: a process that dies
-- after it finds no table and the same note again.
CREATE TABLE IF NOT EXISTS gill_hicks_setting (
    name VARCHAR(64) NOT NULL PRIMARY KEY,
    value VARCHAR(255) NOT NULL
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4 COLLATE = utf8mb4_bin;

INSERT IGNORE INTO gill_hicks_setting (name, value)
SELECT 'default_rows', 'due' FROM DUAL
WHERE NOT EXISTS (
    SELECT 1 FROM information_schema.tables
    WHERE table_schema = DATABASE() AND table_name = 'hardware'
);
