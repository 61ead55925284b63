-- What observations are about. The hash of provider and name makes the pair unique, which
-- `hardware` is not; a row of `hardware` is matched to these in memory, aliases and families included.
CREATE TABLE IF NOT EXISTS hardware_key (
    id INTEGER NOT NULL PRIMARY KEY,
    key_hash BLOB NOT NULL UNIQUE,
    provider TEXT NOT NULL,
    name TEXT NOT NULL
);
