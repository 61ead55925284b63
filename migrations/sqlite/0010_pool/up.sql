-- One supply of one kind of hardware as one source sees it. `identity` is a hash of the source and of the
-- names as they are compared; the names are spelled here as they were first. `listed` says since when the
-- source has it, which it may never have had if somebody imported its history, and `retired` since when it
-- has it no longer: what the source says of all its pools is about this one between the two.
CREATE TABLE pool (
    id INTEGER NOT NULL PRIMARY KEY,
    identity BLOB NOT NULL UNIQUE,
    source_id INTEGER NOT NULL,
    provider TEXT NOT NULL,
    name TEXT NOT NULL,
    region TEXT NOT NULL,
    zone TEXT NOT NULL,
    tier TEXT NOT NULL,
    unit TEXT NOT NULL,
    listed BIGINT NULL,
    retired BIGINT NULL
);
CREATE INDEX pool_source ON pool (source_id);
