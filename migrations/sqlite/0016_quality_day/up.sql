-- The record of each day: sums over the forecasts that were scored, in the bands of a curve. The curves are
-- `uncorrected` and `corrected`, with the bands 0 (P below .1) to 9, and `level`, with a band for each.
CREATE TABLE quality_day (
    day INTEGER NOT NULL,
    kind TEXT NOT NULL,
    curve TEXT NOT NULL,
    band INTEGER NOT NULL,
    forecasts BIGINT NOT NULL,
    predicted DOUBLE NOT NULL,
    observed DOUBLE NOT NULL,
    brier DOUBLE NOT NULL,
    PRIMARY KEY (day, kind, curve, band)
) WITHOUT ROWID;
