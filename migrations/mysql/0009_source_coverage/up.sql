-- Spans in which a source said again and again that all its pools were as they had been but those that
-- it listed: a minute in which nothing changed moves one `last_seen` here, however many pools there are.
CREATE TABLE IF NOT EXISTS source_coverage (
    source_id INTEGER NOT NULL,
    started BIGINT NOT NULL,
    last_seen BIGINT NOT NULL,
    interval_s INTEGER NOT NULL,
    PRIMARY KEY (source_id, started)
) ENGINE = InnoDB;
