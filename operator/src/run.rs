//! `operator run`: wait for the CRDs, become the leader, and run a controller for each scope until
//! shutdown.

use std::{collections::HashSet, convert::Infallible, sync::Arc, time::Duration};

use crds::ResourceKind;
use futures::{
    Stream, StreamExt,
    future::join_all,
    stream::{BoxStream, SelectAll, select},
};
use kube::{Client, Resource, ResourceExt};
use kube_runtime::{
    Controller, Predicate, PredicateConfig, WatchStreamExt,
    controller::{Action, Config},
    predicates,
    reflector::{self, ObjectRef, Store},
    watcher::{self, Event, watcher},
};
use service_kit::{Lifecycle, readiness::Gate};
use tokio::{
    sync::Semaphore,
    time::{Instant, interval, sleep, timeout},
};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use crate::{
    check::crd_problem,
    cluster::{
        Guarded, GuardedWatch,
        cache::{Cache, PAGE},
        client::Fence,
        events::Events,
        leader::LeaderElector,
        retry::Retries,
        scope::Scope,
        secrets::SecretContents,
        watches::WatchBackoff,
    },
    portal::{
        apply::Applier,
        context::Context,
        controller::reconcile,
        gauges::PortalGauges,
        orphans::{KnownPortals, retire_orphans},
        source_reports::SourceReports,
        status::publisher::StatusPublisher,
    },
    rotation::{
        executor::Executor, pod_reports::PodReports, source::Sources, store::Store as StateStore,
    },
    settings::Settings,
    watch::{
        self, context::WatchContext, index::WatchIndex, publisher::WatchPublisher,
        renditions::Renditions, reports::WatchReports, secrets::ReceiverSecrets,
    },
};

/// Passes at the same time, of all scopes together: each waits for the API server most of its time.
const PASSES: usize = 16;
/// Passes of one scope at the same time, of which each needs one of [`PASSES`].
const CONCURRENCY: u16 = 16;
/// Several changes of a portal's children within this time start one pass.
const DEBOUNCE: Duration = Duration::from_millis(20);

/// Time that passes under way get to end after shutdown begins. A pass may be waiting for a database that
/// does not answer, and the next leader can repeat every step.
const GRACE: Duration = Duration::from_secs(1);

/// After this time a replica is ready even if an initial list is outstanding.
const FILLED_AT_THE_LATEST: Duration = Duration::from_secs(20);

/// What every scope's controller works with.
#[derive(Clone)]
pub struct Equipment {
    /// The API server; writes pass the leader's fence.
    pub client: Client,
    /// The leader's fence, for changes that are not made through `client`.
    pub fence: Fence,
    /// The administrator's settings.
    pub settings: Settings,
    /// Where root credentials come from.
    pub sources: Sources,
    /// Asks pods for the credential that they hold.
    pub pod_reports: PodReports,
    /// Asks the portals' APIs for who reports.
    pub source_reports: SourceReports,
    /// Asks the portals' pods what they watch for.
    pub watch_reports: WatchReports,
    /// Name of this process, for events.
    pub instance: String,
    /// Counts the portals of all scopes.
    pub gauges: PortalGauges,
    /// Time between two writes of the status of one portal.
    pub status_pause: Duration,
}

/// Starts the watches, the leader election and the controllers in the background. The process is ready,
/// leader or not, once the CRDs are installed and the initial lists are complete; it ends when the lead is
/// lost.
pub fn start(
    lifecycle: &Lifecycle,
    equipment: Equipment,
    scopes: Vec<Scope>,
    elector: LeaderElector,
) {
    let crd = lifecycle.readiness().gate("crd", "not checked yet");
    let watches = lifecycle.readiness().gate("watches", "the initial lists are not complete");
    let closing = lifecycle.closing().clone();
    lifecycle.spawn("leader", async move {
        let wait = wait_for_crds(&equipment.client, crd);
        if closing.run_until_cancelled(wait).await.is_none() {
            return;
        }
        let followed = follow(&equipment.client, scopes);
        let caches: Vec<Cache> = followed.iter().map(|one| one.cache.clone()).collect();
        tokio::select! {
            () = lead(equipment, followed, elector, closing) => {}
            never = open_when_filled(&caches, watches) => match never {},
        }
    });
}

/// Waits for the lead, runs the controllers while it has it, and releases the Lease after shutdown.
async fn lead(
    equipment: Equipment,
    mut followed: Vec<Followed>,
    elector: LeaderElector,
    closing: CancellationToken,
) {
    // A replica that waits for the lead keeps its caches up to date, so that it can reconcile at once.
    let stand_by = async {
        tokio::select! {
            claim = elector.become_leader() => claim,
            never = keep_caches(&mut followed) => match never {},
        }
    };
    let Some(mut claim) = closing.run_until_cancelled(stand_by).await else { return };
    tokio::select! {
        // Shutdown has begun and every pass has ended.
        () = control(equipment, followed, closing) => elector.resign(claim).await,
        // The lead is lost: passes under way end with the process, and the fence refuses their writes.
        () = elector.stay_leader(&mut claim) => {}
    }
}

/// Makes the replica ready once its caches are filled, so that during a rolling update the old version leads
/// until the new one can reconcile at once. A namespace that was deleted, or has no Role any more, is never
/// listed and must not block that.
async fn open_when_filled(caches: &[Cache], gate: Gate) -> Infallible {
    let filled = join_all(caches.iter().map(Cache::wait_until_filled));
    if timeout(FILLED_AT_THE_LATEST, filled).await.is_err() {
        warn!("not every kind has been listed yet; the errors of the watches above say why");
    }
    gate.open();
    std::future::pending().await
}

/// Waits until the CRDs are installed and have every field that this version knows. Without them each watch
/// fails with a plain 404, and with older ones the API server prunes fields that users apply.
async fn wait_for_crds(client: &Client, gate: Gate) {
    let mut last = String::new();
    loop {
        let Some(problem) = first_crd_problem(client).await else {
            gate.open();
            return;
        };
        if problem != last {
            warn!("{problem}");
            gate.close(problem.clone());
            last = problem;
        }
        sleep(Duration::from_secs(2)).await;
    }
}

async fn first_crd_problem(client: &Client) -> Option<String> {
    for resource in ResourceKind::ALL {
        match crd_problem(client, resource).await {
            Ok(None) => {}
            Ok(problem) => return problem,
            Err(error) => {
                return Some(format!("failed to read the CRD of {}: {error}", resource.plural()));
            }
        }
    }
    None
}

/// One scope and the cache of its children, which is kept up to date while the stream is polled.
pub struct Followed {
    scope: Scope,
    cache: Cache,
    moves: BoxStream<'static, ObjectRef<Guarded>>,
}

/// Starts the watches on the children in each scope.
#[must_use]
pub fn follow(client: &Client, scopes: Vec<Scope>) -> Vec<Followed> {
    let follow = |scope| {
        let (cache, moves) = Cache::watch(client, &scope);
        Followed { scope, cache, moves: moves.boxed() }
    };
    scopes.into_iter().map(follow).collect()
}

/// Keeps the caches up to date. The changes are discarded, since a new leader reconciles every portal first.
async fn keep_caches(followed: &mut [Followed]) -> Infallible {
    let mut moves: SelectAll<_> = followed.iter_mut().map(|one| &mut one.moves).collect();
    while moves.next().await.is_some() {}
    // Without a scope there is nothing to watch.
    std::future::pending().await
}

/// Runs the controllers of every scope until shutdown, and then until every pass has ended, but no longer
/// than [`GRACE`].
pub async fn control(equipment: Equipment, followed: Vec<Followed>, closing: CancellationToken) {
    let shared = Shared::new(&equipment, followed.len());
    let orphans = retire_orphans(
        equipment.client.clone(),
        Arc::clone(&shared.executor),
        shared.known.clone(),
        equipment.settings.clone(),
        closing.clone(),
    );
    let controllers = followed
        .into_iter()
        .map(|one| control_scope(equipment.clone(), shared.clone(), one, closing.clone()));
    let work = async { tokio::join!(join_all(controllers), orphans) };
    let grace = async {
        closing.cancelled().await;
        sleep(GRACE).await;
    };
    // The branch that has not completed is dropped, which cancels it.
    tokio::select! {
        _ = work => {}
        () = grace => {}
    }
}

/// What the controllers of all scopes share. The process has one of each.
#[derive(Clone)]
struct Shared {
    sources: Sources,
    executor: Arc<Executor>,
    passes: Arc<Semaphore>,
    known: KnownPortals,
}

impl Shared {
    fn new(equipment: &Equipment, scopes: usize) -> Self {
        let Equipment { client, fence, settings, pod_reports, sources, .. } = equipment;
        let store = StateStore::new(client.clone(), &settings.namespace);
        Self {
            sources: sources.clone(),
            executor: Arc::new(Executor::new(
                client.clone(),
                pod_reports.clone(),
                store,
                fence.clone(),
            )),
            passes: Arc::new(Semaphore::new(PASSES)),
            known: KnownPortals::new(scopes),
        }
    }
}

async fn control_scope(
    equipment: Equipment,
    shared: Shared,
    followed: Followed,
    closing: CancellationToken,
) {
    let Equipment {
        client,
        settings,
        source_reports,
        watch_reports,
        instance,
        gauges,
        status_pause,
        ..
    } = equipment;
    let Followed { scope, cache, moves } = followed;
    let (portals, writer) = reflector::store();
    let events = Events::new(client.clone(), instance);
    let followed_watches = WatchIndex::follow(&client, &scope);
    let (renditions, rendered) = Renditions::new();
    let watches = Arc::new(WatchContext {
        index: followed_watches.index,
        portals: portals.clone(),
        secrets: ReceiverSecrets::new(client.clone()),
        renditions,
        reports: watch_reports,
        publisher: WatchPublisher::new(client.clone(), events.clone()),
        client: client.clone(),
        events: events.clone(),
        retries: Retries::default(),
        started: Instant::now(),
        closing: closing.clone(),
    });
    let deleted = Arc::clone(&watches);
    let moved = watcher(scope.api(&client), watcher::Config::default().page_size(PAGE))
        // They are larger than the portal itself, and are not read.
        .modify(|portal: &mut Guarded| portal.meta_mut().managed_fields = None)
        .reflect(writer)
        .inspect(move |event| {
            if let Ok(Event::Delete(portal)) = event {
                let portal = ObjectRef::from_obj(portal);
                deleted.renditions.forget(&portal);
                deleted.reports.forget(&portal);
            }
        })
        .applied_objects()
        // A change of the status is this operator's own and needs no pass.
        .predicate_filter(
            predicates::generation
                .combine(predicates::labels)
                .combine(predicates::annotations)
                .combine(predicates::finalizers),
            PredicateConfig::default(),
        );
    let context = Arc::new(Context {
        sources: shared.sources,
        executor: shared.executor,
        passes: shared.passes,
        applier: Applier::new(client.clone()),
        publisher: StatusPublisher::new(client.clone(), events.clone(), status_pause),
        contents: SecretContents::default(),
        source_reports,
        watches: Arc::clone(&watches),
        client,
        settings,
        cache,
        events,
        retries: Retries::default(),
        closing: closing.clone(),
    });
    info!(?scope, "watching");
    let controller = Controller::for_stream(moved, portals.clone())
        .with_config(Config::default().debounce(DEBOUNCE).concurrency(CONCURRENCY))
        .trigger_backoff(WatchBackoff::default())
        .reconcile_on(select(moves, followed_watches.portals))
        .graceful_shutdown_on(closing.clone().cancelled_owned());
    let statuses =
        run_watches(followed_watches.watches, rendered, Arc::clone(&watches), closing.clone());
    let upkeep = run_upkeep(scope, portals, Arc::clone(&context), shared.known, gauges, closing);
    let passes = controller
        .run(
            async |portal, context| Ok::<_, Infallible>(reconcile(portal, context).await),
            |_, error: &Infallible, _| -> Action { match *error {} },
            context,
        )
        .for_each(async |result| {
            // `reconcile` logs its own errors; this one is of a portal that was deleted meanwhile.
            if let Err(error) = result {
                debug!(%error, "a trigger named a portal that does not exist");
            }
        });
    tokio::join!(passes, statuses, upkeep);
}

/// Runs the controller of the watches of a scope, which writes their statuses.
async fn run_watches(
    moved: impl Stream<Item = Result<GuardedWatch, watcher::Error>> + Send + 'static,
    rendered: impl Stream<Item = ObjectRef<GuardedWatch>> + Send + 'static,
    context: Arc<WatchContext>,
    closing: CancellationToken,
) {
    Controller::for_stream(moved, context.index.store())
        .with_config(Config::default().debounce(DEBOUNCE).concurrency(CONCURRENCY))
        .trigger_backoff(WatchBackoff::default())
        .reconcile_on(rendered)
        .graceful_shutdown_on(closing.cancelled_owned())
        .run(
            async |watch, context| {
                Ok::<_, Infallible>(watch::controller::reconcile(watch, context).await)
            },
            |_, error: &Infallible, _| -> Action { match *error {} },
            context,
        )
        .for_each(async |result| {
            if let Err(error) = result {
                debug!(%error, "a trigger named a watch that does not exist");
            }
        })
        .await;
}

/// Forgets portals that no longer exist and counts those that do.
async fn run_upkeep(
    scope: Scope,
    portals: Store<Guarded>,
    context: Arc<Context>,
    known: KnownPortals,
    gauges: PortalGauges,
    closing: CancellationToken,
) {
    if closing.run_until_cancelled(portals.wait_until_ready()).await.is_none() {
        return;
    }
    let mut ticks = interval(Duration::from_secs(10));
    while closing.run_until_cancelled(ticks.tick()).await.is_some() {
        let state = portals.state();
        let uids: HashSet<String> = state.iter().filter_map(|portal| portal.uid()).collect();
        let is_alive = |uid: &str| uids.contains(uid);
        context.applier.retain(is_alive);
        context.retries.retain(is_alive);
        context.publisher.retain(is_alive);
        context.contents.retain_seen(&context.cache);
        context.cache.forget_deleted();
        forget_deleted_watches(&context.watches);
        known.record(&scope, uids);
        gauges.take(&scope, state.iter().map(|portal| portal.0.as_ref().ok()));
    }
}

fn forget_deleted_watches(watches: &WatchContext) {
    let state = watches.index.store().state();
    let uids: HashSet<String> = state.iter().filter_map(|watch| watch.uid()).collect();
    let is_alive = |uid: &str| uids.contains(uid);
    watches.publisher.retain(is_alive);
    watches.retries.retain(is_alive);
    watches.secrets.forget_unused();
}
