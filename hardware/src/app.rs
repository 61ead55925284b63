//! The service, from its configuration to its routes and tasks.

use std::{sync::Arc, time::Duration};

use axum::{
    Json, Router,
    response::{IntoResponse, Response},
    routing::get,
};
use http::{HeaderValue, StatusCode};
use serde_json::json;
use service_kit::{Clock, Lifecycle, readiness::Gate, server::Site};
use tokio::{
    sync::{Notify, Semaphore, watch},
    time::sleep,
};
use tracing::warn;

use crate::{
    api::{self, ApiState, IngestQueue, Tokens, Turns},
    catalog,
    config::{OpenError, OpenStore, ServeArgs},
    jobs::Jobs,
    metrics::{self, IngestMetrics, Series},
    refresh::Refresher,
    reloadable_file::ReloadableFile,
    snapshot::Published,
    store::{CatalogEntry, Db, SessionReport, StoreConfig, StoreError, Tls},
    watches::{WatchReports, Watches},
};

/// Refreshes that may be missed before an answer is called stale, and the least time for it.
const STALE_REFRESHES: u32 = 3;
const STALE_AFTER: Duration = Duration::from_secs(10);

/// How often a database that lacks migrations, or is away, is asked again.
const SCHEMA_PAUSE: Duration = Duration::from_secs(1);

/// Requests that may wait for a view or a check, each of which takes a tenth of a second at worst.
const MAX_WAITING_VIEWS: usize = 16;
const MAX_WAITING_CHECKS: usize = 64;

/// How long the first snapshot waits for the rows of the catalog.
const FIRST_ADD_TIME: Duration = Duration::from_secs(2);

/// Why the service cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The configuration is wrong.
    #[error(transparent)]
    Config(#[from] OpenError),
    /// The embedded database cannot be used.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// A service whose tasks run; the listeners are the caller's.
pub struct App {
    /// The public routes.
    pub public: Site,
    /// Routes for the admin listener, besides those of service-kit.
    pub admin: Router,
    /// Metrics that come and go with what is watched and listed.
    pub series: Series,
}

impl App {
    /// Starts the background tasks in `lifecycle`, which ends them.
    pub async fn start(
        args: &ServeArgs,
        lifecycle: &Lifecycle,
        clock: Clock,
    ) -> Result<Self, StartError> {
        metrics::describe();
        let mcp = args.open_mcp()?;
        let OpenStore { config, credentials } = args.store.open().await?;
        let mut catalog =
            catalog::open(args.catalog_file.as_deref()).await.map_err(OpenError::from)?;
        let mut token = args.open_token().await?;
        let mut source_tokens = args.open_source_tokens().await?;
        if let StoreConfig::Mysql { tls: Tls::Disabled, .. } = config {
            warn!(
                "MYSQL_TLS=disabled: passwords and answers can be read and changed on the way to \
                 the database; use this on your own machine only"
            );
        }
        let db = Arc::new(Db::new(&config)?);
        let schema = lifecycle.readiness().gate("schema", "not checked yet");
        if let StoreConfig::Sqlite { .. } = config {
            db.migrate().await?;
            schema.open();
        }

        if let Some(mut credentials) = credentials {
            credentials.start("credentials file", lifecycle);
        }
        catalog.start("catalog file", lifecycle);
        if let Some(token) = &mut token {
            token.start("token file", lifecycle);
        }
        if let Some(tokens) = &mut source_tokens {
            tokens.start("source tokens file", lifecycle);
        }
        let stale_after = (args.refresh_interval * STALE_REFRESHES).max(STALE_AFTER);
        let published = Published::new(stale_after).cached_as(cache_control(args.refresh_interval));
        let published = Arc::new(published);
        let wake = Arc::new(Notify::new());
        let refresher = Refresher::new(
            Arc::clone(&db),
            Arc::clone(&published),
            args.refresh_interval,
            clock.clone(),
        );
        let pools = refresher.pools();
        let store_tasks = StoreTasks {
            db: Arc::clone(&db),
            schema,
            snapshot: lifecycle.readiness().gate("snapshot", "the database has not been read yet"),
            catalog: catalog.latest(),
            jobs: Jobs::new(
                Arc::clone(&db),
                pools.clone(),
                Arc::clone(&published),
                clock.clone(),
                args.history.history_retention,
            )
            .every(args.jobs_pause),
            refresher,
            wake: Arc::clone(&wake),
        };
        let watches = args.watches_file().map(|file| {
            let (db, published) = (Arc::clone(&db), Arc::clone(&published));
            Watches::new(db, pools.clone(), published, clock.clone(), file.to_owned())
                .every(args.watches_pause)
        });
        let watch_reports = watches.as_ref().map(Watches::reports);
        let series: Series = Arc::new(metrics::series(pools.clone(), watch_reports.clone()));
        if let Some(watches) = watches {
            // It ends what it is sending by itself.
            lifecycle.spawn("watches", watches.run(lifecycle.closing().clone()));
        }
        // The store's guard makes it safe to drop what it is doing.
        let closing = lifecycle.closing().clone();
        lifecycle.spawn("store", async move {
            Box::pin(closing.run_until_cancelled(store_tasks.run())).await;
        });

        let state = ApiState {
            published,
            pools,
            db: Arc::clone(&db),
            wake,
            tokens: Tokens {
                shared: token.as_ref().map(ReloadableFile::latest),
                of_sources: source_tokens.as_ref().map(ReloadableFile::latest),
            },
            clock,
            history_retention: args.history.history_retention,
            queue: IngestQueue::default(),
            views: Turns::new(MAX_WAITING_VIEWS),
            checks: Turns::new(MAX_WAITING_CHECKS),
            histories: Semaphore::new(1),
            lifecycle: lifecycle.clone(),
            mcp,
            ingest_metrics: IngestMetrics::register(),
        };
        Ok(Self { public: api::site(state), admin: admin_router(db, watch_reports), series })
    }
}

/// What goes on beside the requests, in this order.
struct StoreTasks {
    db: Arc<Db>,
    schema: Gate,
    snapshot: Gate,
    refresher: Refresher,
    catalog: watch::Receiver<Arc<Vec<CatalogEntry>>>,
    jobs: Jobs,
    wake: Arc<Notify>,
}

impl StoreTasks {
    /// For ever.
    async fn run(self) {
        let Self { db, schema, snapshot, refresher, catalog, jobs, wake } = self;
        let maintain = async {
            wait_for_schema(&db, &schema).await;
            // Before the first snapshot, so that it has these rows, unless somebody locks the table, as
            // a backup does. Tried again below if it fails.
            let entries = Arc::clone(&catalog.borrow());
            if let Err(error) = catalog::add_rows(&db, &entries, FIRST_ADD_TIME).await {
                warn!(%error, "failed to add the rows of the catalog before the first snapshot");
            }
            tokio::join!(
                catalog::keep(&db, catalog, &wake),
                refresher.run(Arc::clone(&wake), snapshot),
                jobs.run(),
            );
        };
        tokio::join!(maintain, db.retire_old_connections());
    }
}

async fn wait_for_schema(db: &Db, schema: &Gate) {
    let mut reported = String::new();
    loop {
        let reason = match db.pending_migrations().await {
            Ok(pending) if pending.is_empty() => return schema.open(),
            Ok(pending) => {
                let list = pending.join(", ");
                format!("migrations pending ({list}): run \"hardware migrate\"")
            }
            Err(error) => error.to_string(),
        };
        if reported != reason {
            warn!(reason, "waiting for the database");
        }
        schema.close(reason.clone());
        reported = reason;
        sleep(SCHEMA_PAUSE).await;
    }
}

/// A cache may serve the list for one refresh, and for a minute more if this service is gone.
fn cache_control(refresh_interval: Duration) -> HeaderValue {
    let seconds = refresh_interval.as_secs().max(1);
    let value = format!("public, max-age={seconds}, stale-if-error=60");
    HeaderValue::try_from(value).expect("digits and letters")
}

fn admin_router(db: Arc<Db>, watches: Option<WatchReports>) -> Router {
    let report = async move || {
        let none = || SessionReport { generation: 0, candidate: None, connections: [].into() };
        Json(db.session_report().unwrap_or_else(none))
    };
    Router::new()
        .route("/credentials", get(report))
        .route("/watches", get(async move || report_watches(watches.as_ref()).await))
}

async fn report_watches(watches: Option<&WatchReports>) -> Response {
    let items = match watches {
        Some(watches) => watches.list().await,
        None => Ok(Vec::new()),
    };
    match items {
        Ok(items) => Json(json!({"items": items})).into_response(),
        Err(error) => {
            warn!(%error, "failed to report the watches");
            StatusCode::SERVICE_UNAVAILABLE.into_response()
        }
    }
}
