-- One supply of one kind of hardware as one source sees it.
CREATE TABLE IF NOT EXISTS pool (
    id INTEGER NOT NULL PRIMARY KEY,
    hardware_key_id INTEGER NOT NULL REFERENCES hardware_key (id),
    region TEXT NOT NULL,
    zone TEXT NOT NULL,
    tier TEXT NOT NULL,
    unit TEXT NOT NULL,
    source_id INTEGER NOT NULL REFERENCES source (id),
    UNIQUE (hardware_key_id, region, zone, tier, unit, source_id)
);
