//! Prints what many pools cost: taking them in beside a plain INSERT of the same rows on the same database,
//! reading them after a restart, a change until it shows, looks for changes of levels, and a minute in which
//! nothing changes.
#![expect(clippy::print_stdout, reason = "this is what the example is for")]
#![expect(clippy::unwrap_used, reason = "it ends with the first thing that goes wrong")]

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use availability::{ExpectedInterval, Observation, Timestamp, Wanted};
use axum::body::Body;
use chrono::DateTime;
use diesel_async::SimpleAsyncConnection;
use hardware::{
    app::App,
    config::{Cli, Command},
    jobs::Jobs,
    observation::{Batch, Item, PoolName, Unlisted},
    pools::{Pools, Search, SharedPools, Sort, Wish},
    snapshot::Published,
    store::{Arrival, Db, HardwareRow, Step, StoreConfig, Tls},
};
use hardware_api::{AvailabilityPage, History, Want};
use http::{Request, StatusCode};
use http_body_util::BodyExt;
use mysql_async::{Conn, OptsBuilder, SslOpts, prelude::Queryable};
use secrecy::SecretString;
use service_kit::{
    Clock, Lifecycle,
    credentials::{Candidate, CredentialSet},
    lifecycle::ShutdownTimes,
};
use tokio::{sync::watch, time::sleep};
use tower::ServiceExt;

/// Observations in a batch, the most that one may have.
const BATCH: usize = 10_000;

/// Pools that are read by one query, as the service does.
const PAGE: usize = 10_000;

/// Rows in one statement of the plain INSERT, as in the store.
const ROWS: usize = 500;

/// Where the pools are on a server, as long as this goes on.
const SCHEMA: &str = "bench_many_pools";

/// 2026-01-01.
const START_MS: i64 = 1_767_225_600_000;

/// `many_pools POOLS sqlite FILE`, or `many_pools POOLS mysql ENV_FILE`; with `year` at the end a year of 40
/// changes a day goes on there, and with `read` the pools that are there are read, as after a restart.
#[tokio::main]
async fn main() {
    drop(rustls::crypto::aws_lc_rs::default_provider().install_default());
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [pools, kind, place, rest @ ..] = arguments.as_slice() else {
        panic!("usage: many_pools POOLS sqlite|mysql FILE [year|read|read-year]");
    };
    let pools: usize = pools.parse().unwrap();
    let server = (kind == "mysql").then(|| Server::read(Path::new(place)));
    let config = match &server {
        Some(server) => server.config(),
        None => StoreConfig::Sqlite { path: place.into() },
    };
    let db = Arc::new(Db::new(&config).unwrap());
    let rest = rest.first().map(String::as_str);
    match rest {
        Some("read") => return read(&db, pools).await,
        Some("read-year") => {
            read_year(&db).await;
            return time_histories(server.as_ref(), place).await;
        }
        _ => {}
    }
    let drop_schema = format!("DROP DATABASE IF EXISTS {SCHEMA}");
    if let Some(server) = &server {
        server.administer(&drop_schema).await;
        server.administer(&format!("CREATE DATABASE {SCHEMA} CHARACTER SET utf8mb4")).await;
    }
    let read = if rest == Some("year") {
        write_year(&db, pools).await;
        print_size(&db, server.as_ref(), place).await;
        "read-year"
    } else {
        write(&db, pools).await;
        "read"
    };
    // In a process of its own, whose memory holds nothing else.
    let again = std::process::Command::new(std::env::current_exe().unwrap())
        .args(&arguments[..3])
        .arg(read)
        .status();
    assert!(again.unwrap().success());
    if rest == Some("year") {
        delete_old_history(&db).await;
        print_size(&db, server.as_ref(), place).await;
    }
    if let Some(server) = &server {
        server.administer(&drop_schema).await;
    }
}

/// The server of the tests.
struct Server {
    host: String,
    port: u16,
    user: String,
    password: String,
    ca_file: PathBuf,
}

impl Server {
    fn read(file: &Path) -> Self {
        let text = std::fs::read_to_string(file).unwrap();
        let settings: HashMap<&str, &str> =
            text.lines().filter_map(|line| line.split_once('=')).collect();
        Self {
            host: settings["MYSQL_HOST"].to_owned(),
            port: settings["MYSQL_PORT"].parse().unwrap(),
            user: settings["MARIADB_ADMIN_USER"].to_owned(),
            password: settings["MARIADB_ADMIN_PASSWORD"].to_owned(),
            ca_file: settings["MYSQL_TLS_CA_FILE"].into(),
        }
    }

    /// As the service takes them.
    fn options(&self) -> Vec<String> {
        let Self { host, port, user, password, ca_file } = self;
        vec![
            format!("--mysql-host={host}:{port}"),
            format!("--mysql-user={user}"),
            format!("--mysql-password={password}"),
            format!("--mysql-database={SCHEMA}"),
            format!("--mysql-tls-ca-file={}", ca_file.display()),
        ]
    }

    async fn administer(&self, statement: &str) {
        let mut connection = self.connect().await;
        connection.query_drop(statement).await.unwrap();
        connection.disconnect().await.unwrap();
    }

    /// The only number of an answer.
    async fn ask(&self, query: &str) -> u64 {
        let mut connection = self.connect().await;
        let number = connection.query_first(query).await.unwrap();
        connection.disconnect().await.unwrap();
        number.unwrap()
    }

    async fn connect(&self) -> Conn {
        let tls = SslOpts::default()
            .with_root_certs(vec![self.ca_file.clone().into()])
            .with_disable_built_in_roots(true);
        let options = OptsBuilder::default()
            .ip_or_hostname(self.host.clone())
            .tcp_port(self.port)
            .user(Some(self.user.clone()))
            .pass(Some(self.password.clone()))
            .prefer_socket(false)
            .ssl_opts(tls);
        Conn::new(options).await.unwrap()
    }

    fn config(&self) -> StoreConfig {
        let set = CredentialSet {
            generation: 1,
            host: self.host.clone(),
            port: self.port,
            database: SCHEMA.to_owned(),
            candidates: vec![Candidate {
                username: self.user.clone(),
                password: SecretString::from(self.password.clone()),
            }],
        };
        let (sender, credentials) = watch::channel(Arc::new(set));
        // Nobody rotates it.
        std::mem::forget(sender);
        StoreConfig::Mysql { credentials, tls: Tls::Required { ca_file: self.ca_file.clone() } }
    }
}

fn at(minute: i64) -> Timestamp {
    Timestamp::from_millis(START_MS + minute * 60_000)
}

fn batch(pools: std::ops::Range<usize>, minute: i64, in_use: u32) -> Batch {
    let items = pools.map(|number| Item {
        index: 0,
        pool: PoolName {
            provider: "lab".to_owned(),
            name: format!("t{}.x{}", number / 1000, number % 100),
            region: format!("r{}", number % 1000 / 100),
            zone: String::new(),
            tier: "owned".to_owned(),
            unit: "gpu".to_owned(),
        },
        at: at(minute),
        observation: Observation::counts(8, in_use),
    });
    Batch {
        source: "bench".to_owned(),
        interval: ExpectedInterval::default(),
        unlisted: None,
        problem: None,
        items: items.collect(),
        is_whole: true,
    }
}

async fn record(db: &Db, batch: &Batch) -> Duration {
    let started = Instant::now();
    db.record(batch, Arrival { at: at(0), oldest_kept: at(-1000) }).await.unwrap();
    started.elapsed()
}

async fn write(db: &Db, pools: usize) {
    db.migrate().await.unwrap();
    let mut new = Duration::ZERO;
    for first in (0..pools).step_by(BATCH) {
        new += record(db, &batch(first..pools.min(first + BATCH), 0, 1)).await;
    }
    print_rate("new", pools, new);
    // The same pools again and again, beside a plain INSERT of as many rows.
    let (mut changed, mut plain) = (Vec::new(), Vec::new());
    for minute in 1..=7_u32 {
        let some = batch(0..BATCH.min(pools), minute.into(), minute % 8);
        changed.push(record(db, &some).await);
        plain.push(insert_plainly(db, &some, minute).await);
    }
    let (changed, plain) = (median(changed), median(plain));
    print_rate("changed", BATCH.min(pools), changed);
    println!("changed_vs_plain {:.3}", plain.as_secs_f64() / changed.as_secs_f64());
    let mut confirmed = Vec::new();
    for minute in 8..=12 {
        confirmed.push(record(db, &batch(0..BATCH.min(pools), minute, 7)).await);
    }
    print_rate("confirmed", BATCH.min(pools), median(confirmed));
    let mut quiet = Vec::new();
    for minute in 13..=33 {
        let unlisted = Some(Unlisted::Unchanged(at(minute)));
        quiet.push(record(db, &Batch { unlisted, ..batch(0..0, minute, 0) }).await);
    }
    println!("quiet_ms {:.2}", median(quiet).as_secs_f64() * 1000.0);
}

/// The same rows, without anything else: the limit of what the database takes.
async fn insert_plainly(db: &Db, batch: &Batch, minute: u32) -> Duration {
    const CREATE: &str = "CREATE TABLE IF NOT EXISTS plain (pool_id INTEGER, source_id INTEGER, \
                          revision BIGINT, interval_s INTEGER, started BIGINT, last_seen BIGINT, \
                          total INTEGER, free INTEGER, states BLOB, PRIMARY KEY (revision, pool_id))";
    run(db, CREATE.to_owned()).await;
    // Eight states, as a pool of eight units has them.
    let states = "00".repeat(2 + 8 * 18);
    let rows: Vec<String> = (0..batch.items.len())
        .map(|pool| format!("({pool},1,{minute},60,{START_MS},{START_MS},8,1,X'{states}')"))
        .collect();
    let begin = if matches!(db, Db::Sqlite(_)) { "BEGIN IMMEDIATE" } else { "START TRANSACTION" };
    let mut statements = vec![begin.to_owned()];
    for rows in rows.chunks(ROWS) {
        statements.push(format!("INSERT INTO plain VALUES {}", rows.join(",")));
    }
    statements.push("COMMIT".to_owned());
    let started = Instant::now();
    match db {
        Db::Sqlite(connections) => {
            let done = connections.writing.run(async |connection| {
                for statement in &statements {
                    connection.batch_execute(statement).await?;
                }
                Ok(())
            });
            done.await.unwrap();
        }
        Db::Mysql(connections) => {
            let done = connections.writing.run(async |connection| {
                for statement in &statements {
                    connection.batch_execute(statement).await?;
                }
                Ok(())
            });
            done.await.unwrap();
        }
    }
    started.elapsed()
}

async fn run(db: &Db, sql: String) {
    let done = match db {
        Db::Sqlite(connections) => {
            connections.writing.run(async |connection| connection.batch_execute(&sql).await).await
        }
        Db::Mysql(connections) => {
            connections.writing.run(async |connection| connection.batch_execute(&sql).await).await
        }
    };
    done.unwrap();
}

async fn read(db: &Arc<Db>, count: usize) {
    let started = Instant::now();
    let (pools, mut read) = (SharedPools::default(), Pools::default());
    let revision = read_changes(db, &mut read, -1).await;
    *pools.write() = read;
    // A family for each thousand pools.
    let rows: Vec<HardwareRow> = (0..count.div_ceil(1000))
        .map(|number| HardwareRow {
            id: number.to_string(),
            provider: "lab".to_owned(),
            name: format!("t{number}"),
        })
        .collect();
    let levels = pools.tick(&rows, at(34));
    assert_eq!(levels.len(), rows.len());
    println!("restart_s {:.2}", started.elapsed().as_secs_f64());
    println!("memory_mb {:.1}", resident_mb());

    let mut tick = Vec::new();
    for second in 0..5 {
        let started = Instant::now();
        let now = Timestamp::from_millis(at(34).as_millis() + second * 2000);
        assert_eq!(pools.tick(&rows, now).len(), rows.len());
        tick.push(started.elapsed());
    }
    println!("tick_ms {:.1}", median(tick).as_secs_f64() * 1000.0);

    print_requests(&pools, count);
    let mut jobs = jobs(db, &pools);
    // Each but the first compares all levels with those that the one before it has stored.
    for name in ["first", "rest"] {
        print_look(&mut jobs, name).await;
    }
    let some = (count / 100).max(1);
    let started = Instant::now();
    for first in (0..some).step_by(BATCH) {
        record(db, &batch(first..some.min(first + BATCH), 35, 8)).await;
    }
    let mut read = std::mem::take(&mut *pools.write());
    read_changes(db, &mut read, revision).await;
    *pools.write() = read;
    assert_eq!(pools.tick(&rows, at(35)).len(), rows.len());
    println!("change_to_visible_s {:.3}", started.elapsed().as_secs_f64());
    print_look(&mut jobs, "changed").await;
    println!("level_changes {}", db.list_level_changes(0).await.unwrap().len());
}

fn jobs(db: &Arc<Db>, pools: &SharedPools) -> Jobs {
    let clock = Clock::new(|| DateTime::from_timestamp_millis(at(35).as_millis()).unwrap());
    let published = Arc::new(Published::new(Duration::from_hours(1)));
    let kept = Duration::from_hours(30 * 24);
    Jobs::new(Arc::clone(db), pools.clone(), published, clock, kept)
}

async fn print_look(jobs: &mut Jobs, name: &str) {
    let started = Instant::now();
    assert!(jobs.run_due().await.unwrap(), "nobody else has the lease");
    println!("look_{name}_ms {:.1}", started.elapsed().as_secs_f64() * 1000.0);
}

/// Requests that are answered from memory for 3 units: pages of 50 that are filtered and sorted, and picks.
fn print_requests(pools: &SharedPools, count: usize) {
    const REQUESTS: usize = 1000;
    let three = Wanted::new(3).unwrap();
    let view = pools.make_view(three).unwrap();
    let time = |answer: &dyn Fn(usize) -> usize| {
        let mut times = Vec::with_capacity(REQUESTS);
        for request in 0..REQUESTS {
            let started = Instant::now();
            assert!(answer(request) > 0);
            times.push(started.elapsed());
        }
        times.sort_unstable();
        times[REQUESTS * 99 / 100].as_secs_f64() * 1000.0
    };
    let number = |request: usize| request * 7919 % count.div_ceil(1000);
    let page = |request: usize| {
        let filter = match request % 4 {
            0 => "provider:lab -level:low".to_owned(),
            1 => format!("name:t{}.*", number(request)),
            2 => format!("t{}", number(request)),
            _ => String::new(),
        };
        let sort = Sort::from_word(["level", "-level", "name"][request % 3]).unwrap();
        let search = Search::new(filter.parse().unwrap(), sort, None, 50).unwrap();
        let pools = pools.read();
        let page = search.run(&pools, &view);
        page.rows.iter().filter_map(|row| pools.answer(&view, *row, three)).count()
    };
    println!("page_p99_ms {:.3}", time(&page));
    let pick = |request: usize| {
        let name = format!("t{}", number(request));
        let want = Want { provider: "lab".to_owned(), name, ..Want::default() };
        usize::from(pools.read().find(&view, &Wish::from(&want), three).best.is_some())
    };
    println!("pick_p99_ms {:.3}", time(&pick));
}

/// Reads what changed after a revision, and returns the latest one.
async fn read_changes(db: &Db, pools: &mut Pools, revision: i64) -> i64 {
    let source = db.list_sources().await.unwrap().remove(0);
    let coverage = db.list_coverage(source.id, i64::MIN).await.unwrap();
    let mut after = i32::MIN;
    loop {
        let page = db.list_changed_pools(source.id, revision, after, PAGE).await.unwrap();
        for row in &page {
            pools.update(row, &source, &coverage);
            after = row.pool.id;
        }
        if page.len() < PAGE {
            return source.revision;
        }
    }
}

const DAYS: i64 = 365;
const CHANGES_A_DAY: i64 = 40;
const DAY_MINUTES: i64 = 24 * 60;

/// Every pool is reported every minute and changes 40 times a day: only the changes are sent, the last ones of a
/// source with an interval that speaks for the time between them.
async fn write_year(db: &Db, pools: usize) {
    db.migrate().await.unwrap();
    let started = Instant::now();
    let mut longest = Duration::ZERO;
    let per_batch = BATCH / usize::try_from(CHANGES_A_DAY).unwrap();
    for day in 0..DAYS {
        for first in (0..pools).step_by(per_batch) {
            let some = first..pools.min(first + per_batch);
            let mut whole = batch(0..0, 0, 0);
            for change in 0..CHANGES_A_DAY {
                let minute = day * DAY_MINUTES + change * DAY_MINUTES / CHANGES_A_DAY;
                let in_use = u32::try_from(change % 8).unwrap();
                whole.items.extend(batch(some.clone(), minute, in_use).items);
            }
            whole.interval = ExpectedInterval::new(Duration::from_mins(18)).unwrap();
            longest = longest.max(record(db, &whole).await);
        }
    }
    println!("year_written_s {:.1}", started.elapsed().as_secs_f64());
    println!("year_longest_batch_ms {:.0}", longest.as_secs_f64() * 1000.0);
}

/// The file, or what the server says of the tables.
async fn print_size(db: &Db, server: Option<&Server>, place: &str) {
    let bytes = match server {
        None => {
            run(db, "PRAGMA wal_checkpoint(TRUNCATE)".to_owned()).await;
            std::fs::metadata(place).unwrap().len()
        }
        Some(server) => {
            let tables = format!(
                "SELECT CAST(SUM(data_length + index_length) AS UNSIGNED) \
                 FROM information_schema.tables WHERE table_schema = '{SCHEMA}'"
            );
            server.ask(&tables).await
        }
    };
    println!("year_size_mb {}", bytes / 1_000_000);
}

async fn read_year(db: &Db) {
    let started = Instant::now();
    let mut pools = Pools::default();
    read_changes(db, &mut pools, -1).await;
    println!("year_restart_s {:.3}", started.elapsed().as_secs_f64());
    println!("year_memory_mb {:.1}", resident_mb());
}

/// `GET /v1/pools/{id}/history` of the last 30 days, through the router, of pools from all over the year's.
async fn time_histories(server: Option<&Server>, place: &str) {
    const POOLS: usize = 50;
    const ROUNDS: usize = 5;
    let database = match server {
        None => ["--sqlite-path", place].map(str::to_owned).to_vec(),
        Some(server) => server.options(),
    };
    // Nothing of the year is too old.
    let fixed = ["hardware", "serve", "--history-retention", "400d"].map(str::to_owned);
    let cli: Cli = test_kit::parse(fixed.into_iter().chain(database));
    let Command::Serve(args) = cli.command else { panic!("asked to serve") };
    let times = ShutdownTimes { drain_delay: Duration::ZERO, deadline: Duration::from_secs(10) };
    let (lifecycle, _ended) = Lifecycle::new(times);
    let now = DateTime::from_timestamp_millis(at(DAYS * DAY_MINUTES).as_millis()).unwrap();
    let app = App::start(&args, &lifecycle, Clock::new(move || now)).await.unwrap();
    let router = app.public.into_router();
    let get = async |path: String| {
        let request = Request::get(path).body(Body::empty()).unwrap();
        let response = router.clone().oneshot(request).await.unwrap();
        let status = response.status();
        (status, response.into_body().collect().await.unwrap().to_bytes())
    };
    let started = Instant::now();
    let page: AvailabilityPage = loop {
        let (status, body) = get("/v1/availability?limit=1000".to_owned()).await;
        if status == StatusCode::OK {
            break serde_json::from_slice(&body).unwrap();
        }
        assert!(started.elapsed() < Duration::from_mins(1), "the service does not become ready");
        sleep(Duration::from_millis(50)).await;
    };
    let step = (page.items.len() / POOLS).max(1);
    let mut times = Vec::new();
    for _ in 0..ROUNDS {
        for pool in page.items.iter().step_by(step) {
            let started = Instant::now();
            let (status, body) = get(format!("/v1/pools/{}/history", pool.id)).await;
            times.push(started.elapsed());
            assert_eq!(status, StatusCode::OK);
            let history: History = serde_json::from_slice(&body).unwrap();
            let expected = usize::try_from(30 * CHANGES_A_DAY).unwrap();
            let found = history.sources[0].segments.len();
            assert!(found.abs_diff(expected) <= 1, "{found} segments instead of {expected}");
        }
    }
    times.sort_unstable();
    for percent in [50, 99] {
        let time = times[times.len() * percent / 100];
        println!("year_history_p{percent}_ms {:.2}", time.as_secs_f64() * 1000.0);
    }
}

/// Eleven months of it.
async fn delete_old_history(db: &Db) {
    let lease = db.claim("jobs", "example", 3600).await.unwrap().unwrap();
    let started = Instant::now();
    let (mut rows, mut longest) = (0, Duration::ZERO);
    loop {
        let step = Instant::now();
        match db.delete_old_history(&lease, at((DAYS - 30) * DAY_MINUTES)).await.unwrap() {
            Step::Did(more) => rows += more,
            Step::Done => break,
            Step::LostLease => panic!("nobody else wants it"),
        }
        longest = longest.max(step.elapsed());
    }
    println!("year_deleted_rows {rows}");
    println!("year_deleted_s {:.1}", started.elapsed().as_secs_f64());
    println!("year_longest_step_ms {:.0}", longest.as_secs_f64() * 1000.0);
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}

#[expect(clippy::cast_precision_loss, reason = "far fewer than 2⁵²")]
fn print_rate(name: &str, pools: usize, time: Duration) {
    println!("{name}_per_s {:.0}", pools as f64 / time.as_secs_f64());
}

fn resident_mb() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<f64>().unwrap() / 1000.0
}
