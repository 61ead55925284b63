-- The level of every supply when changes were last looked for, which is what the next look compares with. One
-- row has the supplies whose id begins with the byte `bucket`: there are 256 rows for any number of supplies.
CREATE TABLE known_level (
    bucket INTEGER NOT NULL PRIMARY KEY,
    levels BLOB NOT NULL
);
