-- Notes that the table `hardware` is going to be made by the next migration, so that default rows are
-- put into it once, and never into a table that was there before.
CREATE TABLE IF NOT EXISTS gill_hicks_setting (
    name TEXT NOT NULL PRIMARY KEY,
    value TEXT NOT NULL
);

INSERT OR IGNORE INTO gill_hicks_setting (name, value)
SELECT 'default_rows', 'due'
WHERE NOT EXISTS (SELECT 1 FROM sqlite_master WHERE type IN ('table', 'view') AND name = 'hardware');
