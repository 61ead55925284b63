-- Changes of what is said of a supply for one unit, in the order in which they were found; only the latest
-- are kept. The names are those that were shown, `source` is who spoke, `sentence` one reason for the new
-- level, and `probability` is NULL where it was not known. An id is never given again, also where all rows
-- were deleted: readers ask for those that follow the last one they know.
CREATE TABLE level_change (
    id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
    at BIGINT NOT NULL,
    provider TEXT NOT NULL,
    name TEXT NOT NULL,
    region TEXT NOT NULL,
    zone TEXT NOT NULL,
    tier TEXT NOT NULL,
    unit TEXT NOT NULL,
    source TEXT NOT NULL,
    from_level TEXT NOT NULL,
    to_level TEXT NOT NULL,
    probability DOUBLE NULL,
    sentence TEXT NOT NULL
);
