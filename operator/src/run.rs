//! `operator run`: wait for the definition, become the leader, and control every scope until told to
//! stop.

use std::{collections::HashSet, convert::Infallible, sync::Arc, time::Duration};

use futures::{
    StreamExt,
    future::join_all,
    stream::{BoxStream, SelectAll},
};
use kube::{Client, Resource, ResourceExt};
use kube_runtime::{
    Controller, Predicate, PredicateConfig, WatchStreamExt,
    controller::{Action, Config},
    predicates,
    reflector::{self, ObjectRef, Store},
    watcher::{self, watcher},
};
use service_kit::{Lifecycle, readiness::Gate};
use tokio::{
    sync::Semaphore,
    time::{interval, sleep, timeout},
};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use crate::{
    check::definition_problem,
    cluster::{
        Guarded,
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
        status::publisher::StatusPublisher,
    },
    rotation::{
        executor::Executor, pod_reports::PodReports, source::Sources, store::Store as StateStore,
    },
    settings::Settings,
};

/// Passes at the same time, of all scopes together: each waits for the API server most of its time.
const PASSES: usize = 16;
/// Passes of one scope that may wait for their turn.
const CONCURRENCY: u16 = 16;
/// Several moves of a portal's children within this time make one pass.
const DEBOUNCE: Duration = Duration::from_millis(20);

/// Time that passes under way get to end when the process is told to stop. One may be waiting for a
/// database that does not answer, and the next leader can repeat every step.
const GRACE: Duration = Duration::from_secs(1);

/// When a replica is ready though a list is outstanding.
const FILLED_AT_THE_LATEST: Duration = Duration::from_secs(20);

/// What every scope's controller works with.
#[derive(Clone)]
pub struct Equipment {
    /// The API server; writes pass the leader's fence.
    pub client: Client,
    /// The leader's fence, for what is changed elsewhere than through `client`.
    pub fence: Fence,
    /// The administrator's decisions.
    pub settings: Settings,
    /// Where root credentials come from.
    pub sources: Sources,
    /// Asks pods.
    pub pod_reports: PodReports,
    /// Name of this process, for events.
    pub instance: String,
    /// Counts the portals of all scopes.
    pub gauges: PortalGauges,
    /// Between two statuses of a portal that settles.
    pub status_pause: Duration,
}

/// Starts the work in the background. The process is ready, leader or not, once the definition is
/// installed and it has seen what is there; it ends when the lead is lost.
pub fn start(
    lifecycle: &Lifecycle,
    equipment: Equipment,
    scopes: Vec<Scope>,
    elector: LeaderElector,
) {
    let definition = lifecycle.readiness().gate("definition", "not looked for yet");
    let watches = lifecycle.readiness().gate("watches", "what is there is being listed");
    let closing = lifecycle.closing().clone();
    lifecycle.spawn("leader", async move {
        let wait = wait_for_definition(&equipment.client, definition);
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

/// Waits for the lead, works as long as it has it, and gives it back when told to stop.
async fn lead(
    equipment: Equipment,
    mut followed: Vec<Followed>,
    elector: LeaderElector,
    closing: CancellationToken,
) {
    // Whoever waits for the lead follows everything already, to be of use at once.
    let stand_by = async {
        tokio::select! {
            claim = elector.become_leader() => claim,
            never = keep_caches(&mut followed) => match never {},
        }
    };
    let Some(mut claim) = closing.run_until_cancelled(stand_by).await else { return };
    tokio::select! {
        // Told to stop, and nothing is under way any more.
        () = control(equipment, followed, closing) => elector.resign(claim).await,
        // What is under way ends with the process; the fence lets nothing through.
        () = elector.stay_leader(&mut claim) => {}
    }
}

/// While a new version rolls out, the old one goes on until the new one would be of use at once. A
/// namespace that is gone, or whose Role is, is never listed and must not hold that up.
async fn open_when_filled(caches: &[Cache], gate: Gate) -> Infallible {
    let filled = join_all(caches.iter().map(Cache::wait_until_filled));
    if timeout(FILLED_AT_THE_LATEST, filled).await.is_err() {
        warn!("some of what is there has not been listed yet; the watches above say why");
    }
    gate.open();
    std::future::pending().await
}

/// A watch on a kind that does not exist fails for ever, and says so in riddles. Of an older
/// definition the API server would drop, without a word, what users write.
async fn wait_for_definition(client: &Client, gate: Gate) {
    let mut last = String::new();
    loop {
        let problem = match definition_problem(client).await {
            Ok(None) => {
                gate.open();
                return;
            }
            Ok(Some(problem)) => problem,
            Err(error) => format!("failed to look for the definition: {error}"),
        };
        if problem != last {
            warn!("{problem}");
            gate.close(problem.clone());
            last = problem;
        }
        sleep(Duration::from_secs(2)).await;
    }
}

/// One scope, and its children, which are followed as long as the stream is polled.
pub struct Followed {
    scope: Scope,
    cache: Cache,
    moves: BoxStream<'static, ObjectRef<Guarded>>,
}

/// Starts to follow the children in each scope.
#[must_use]
pub fn follow(client: &Client, scopes: Vec<Scope>) -> Vec<Followed> {
    let follow = |scope| {
        let (cache, moves) = Cache::watch(client, &scope);
        Followed { scope, cache, moves: moves.boxed() }
    };
    scopes.into_iter().map(follow).collect()
}

/// Keeps the caches up to date. What moved is not of interest: the leader looks at every portal first.
async fn keep_caches(followed: &mut [Followed]) -> Infallible {
    let mut moves: SelectAll<_> = followed.iter_mut().map(|one| &mut one.moves).collect();
    while moves.next().await.is_some() {}
    // Without a scope there is nothing to follow.
    std::future::pending().await
}

/// Controls every scope until told to close, and then until every pass has ended, but no longer than
/// [`GRACE`].
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
    // A branch that is not taken is dropped, and nothing of it goes on.
    tokio::select! {
        _ = work => {}
        () = grace => {}
    }
}

/// What the controllers of all scopes share: there is one of each in the process.
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
    let Equipment { client, settings, instance, gauges, status_pause, .. } = equipment;
    let Followed { scope, cache, moves } = followed;
    let (portals, writer) = reflector::store();
    let moved = watcher(scope.api(&client), watcher::Config::default().page_size(PAGE))
        // Larger than the portal itself, and nothing here reads them.
        .modify(|portal: &mut Guarded| portal.meta_mut().managed_fields = None)
        .reflect(writer)
        .applied_objects()
        // What is said in the status is said by this process: no reason to look again.
        .predicate_filter(
            predicates::generation
                .combine(predicates::labels)
                .combine(predicates::annotations)
                .combine(predicates::finalizers),
            PredicateConfig::default(),
        );
    let events = Events::new(client.clone(), instance);
    let context = Arc::new(Context {
        sources: shared.sources,
        executor: shared.executor,
        passes: shared.passes,
        applier: Applier::new(client.clone()),
        publisher: StatusPublisher::new(client.clone(), events.clone(), status_pause),
        contents: SecretContents::default(),
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
        .reconcile_on(moves)
        .graceful_shutdown_on(closing.clone().cancelled_owned());
    let upkeep = run_upkeep(scope, portals, Arc::clone(&context), shared.known, gauges, closing);
    let passes = controller
        .run(
            async |portal, context| Ok::<_, Infallible>(reconcile(portal, context).await),
            |_, error: &Infallible, _| -> Action { match *error {} },
            context,
        )
        .for_each(async |result| {
            // A failed pass is logged where it fails; this is a portal that went meanwhile.
            if let Err(error) = result {
                debug!(%error, "a trigger led nowhere");
            }
        });
    tokio::join!(passes, upkeep);
}

/// Forgets portals that are gone and counts those that are here.
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
        known.record(&scope, uids);
        gauges.take(&scope, state.iter().map(|portal| portal.0.as_ref().ok()));
    }
}
