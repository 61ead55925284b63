//! The tables, as both databases have them; see diesel.toml. All times are milliseconds since the Unix
//! epoch, UTC.

diesel::table! {
    attempt (pool_id, at, units) {
        pool_id -> Integer,
        at -> BigInt,
        units -> Integer,
        outcome -> Text,
        code -> Nullable<Text>,
        source_id -> Integer,
        revision -> BigInt,
    }
}

diesel::table! {
    job_lease (name) {
        name -> Text,
        holder -> Text,
        until -> BigInt,
        fence -> BigInt,
    }
}

diesel::table! {
    pool (id) {
        id -> Integer,
        identity -> Binary,
        source_id -> Integer,
        provider -> Text,
        name -> Text,
        region -> Text,
        zone -> Text,
        tier -> Text,
        unit -> Text,
        listed -> Nullable<BigInt>,
        retired -> Nullable<BigInt>,
    }
}

diesel::table! {
    pool_state (pool_id) {
        pool_id -> Integer,
        source_id -> Integer,
        revision -> BigInt,
        interval_s -> Integer,
        started -> BigInt,
        last_seen -> BigInt,
        total -> Nullable<BigInt>,
        free -> BigInt,
        states -> Binary,
    }
}

diesel::table! {
    segment (day, pool_id, started) {
        day -> Integer,
        pool_id -> Integer,
        started -> BigInt,
        last_seen -> BigInt,
        total -> Nullable<BigInt>,
        free -> BigInt,
    }
}

diesel::table! {
    source (id) {
        id -> Integer,
        name -> Text,
        expected_interval_s -> Integer,
        revision -> BigInt,
        last_seen -> BigInt,
    }
}

diesel::table! {
    source_coverage (source_id, started) {
        source_id -> Integer,
        started -> BigInt,
        last_seen -> BigInt,
        interval_s -> Integer,
    }
}

diesel::table! {
    source_problem (source_id) {
        source_id -> Integer,
        code -> Text,
        detail -> Text,
        since -> BigInt,
    }
}

diesel::table! {
    forecast (made, pool_id, n) {
        made -> BigInt,
        pool_id -> Integer,
        n -> Integer,
        kind -> Text,
        cell -> Integer,
        uncorrected -> Double,
        corrected -> Double,
        level -> Text,
    }
}

diesel::table! {
    calibration (kind, cell) {
        kind -> Text,
        cell -> Integer,
        as_of -> BigInt,
        forecasts -> Double,
        predicted -> Double,
        observed -> Double,
    }
}

diesel::table! {
    level_change (id) {
        id -> BigInt,
        at -> BigInt,
        provider -> Text,
        name -> Text,
        region -> Text,
        zone -> Text,
        tier -> Text,
        unit -> Text,
        source -> Text,
        from_level -> Text,
        to_level -> Text,
        probability -> Nullable<Double>,
        sentence -> Text,
    }
}

diesel::table! {
    known_level (bucket) {
        bucket -> Integer,
        levels -> Binary,
    }
}

diesel::table! {
    level_feed (id) {
        id -> Integer,
        seed -> Text,
        created -> BigInt,
        revision -> BigInt,
    }
}

diesel::table! {
    quality_day (day, kind, curve, band) {
        day -> Integer,
        kind -> Text,
        curve -> Text,
        band -> Integer,
        forecasts -> BigInt,
        predicted -> Double,
        observed -> Double,
        brier -> Double,
    }
}

diesel::table! {
    watch_state (uid) {
        uid -> Text,
        generation -> BigInt,
        armed -> Integer,
        holds_since -> Nullable<BigInt>,
        fired -> Nullable<BigInt>,
        delivered -> Nullable<BigInt>,
        seen -> BigInt,
    }
}

diesel::table! {
    delivery (id) {
        id -> Text,
        uid -> Text,
        target -> Integer,
        made -> BigInt,
        firing -> Text,
        attempts -> Integer,
        due -> BigInt,
        error -> Nullable<Text>,
        failed -> Nullable<BigInt>,
        given_up -> Nullable<BigInt>,
    }
}
