-- The record of each day: sums over the forecasts that were scored, in the bands of a curve. The curves are
-- `uncorrected` and `corrected`, with the bands 0 (P below .1) to 9, and `level`, with a band for each.
CREATE TABLE IF NOT EXISTS quality_day (
    day INTEGER NOT NULL,
    kind VARCHAR(32) NOT NULL,
    curve VARCHAR(16) NOT NULL,
    band INTEGER NOT NULL,
    forecasts BIGINT NOT NULL,
    predicted DOUBLE NOT NULL,
    observed DOUBLE NOT NULL,
    brier DOUBLE NOT NULL,
    PRIMARY KEY (day, kind, curve, band)
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4 COLLATE = utf8mb4_bin;
