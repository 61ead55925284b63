-- What scored forecasts of alike cases teach, by kind of source: weighted sums, as they were at `as_of`.
-- libs/availability says what a cell is.
CREATE TABLE IF NOT EXISTS calibration (
    kind VARCHAR(32) NOT NULL,
    cell INTEGER NOT NULL,
    as_of BIGINT NOT NULL,
    forecasts DOUBLE NOT NULL,
    predicted DOUBLE NOT NULL,
    observed DOUBLE NOT NULL,
    PRIMARY KEY (kind, cell)
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4 COLLATE = utf8mb4_bin;
