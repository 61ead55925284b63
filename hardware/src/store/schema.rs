//! The tables, as both databases have them; see diesel.toml.

diesel::table! {
    hardware_key (id) {
        id -> Integer,
        key_hash -> Binary,
        provider -> Text,
        name -> Text,
    }
}

diesel::table! {
    pool (id) {
        id -> Integer,
        hardware_key_id -> Integer,
        region -> Text,
        zone -> Text,
        tier -> Text,
        unit -> Text,
        source_id -> Integer,
    }
}

diesel::table! {
    pool_current (pool_id) {
        pool_id -> Integer,
        source_id -> Integer,
        revision -> BigInt,
        started_at -> Timestamp,
        last_seen_at -> Timestamp,
        total -> Nullable<Integer>,
        free -> Integer,
    }
}

diesel::table! {
    segment (pool_id, started_at) {
        pool_id -> Integer,
        started_at -> Timestamp,
        last_seen_at -> Timestamp,
        total -> Nullable<Integer>,
        free -> Integer,
    }
}

diesel::table! {
    source (id) {
        id -> Integer,
        name -> Text,
        expected_interval_s -> Integer,
        revision -> BigInt,
        last_seen_at -> Timestamp,
    }
}

diesel::joinable!(pool -> hardware_key (hardware_key_id));
diesel::joinable!(pool -> source (source_id));
diesel::joinable!(pool_current -> pool (pool_id));
diesel::joinable!(pool_current -> source (source_id));
diesel::joinable!(segment -> pool (pool_id));

diesel::allow_tables_to_appear_in_same_query!(hardware_key, pool, pool_current, segment, source,);
