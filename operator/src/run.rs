//! `operator run`: one controller per scope, until the process is told to stop.

use std::{convert::Infallible, sync::Arc, time::Duration};

use futures::StreamExt;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::{Api, Client, ResourceExt};
use kube_runtime::{
    Controller,
    controller::{Action, Config},
    reflector::Store,
    watcher,
};
use metrics::gauge;
use service_kit::{Lifecycle, readiness::Gate};
use tokio::time::{interval, sleep};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use crate::{
    credentials::{adoption::Inquirer, rotator::Rotator, source::Sources},
    events::Events,
    permissions::DEFINITION,
    portal_controller::{
        Context, Guarded,
        apply::Applier,
        live::{Cache, Scope},
        reconcile,
        retry::Retries,
    },
    settings::Settings,
};

/// Passes of one scope at the same time: each waits for the API server most of its time.
const CONCURRENCY: u16 = 16;
/// Several moves of a portal's children within this time make one pass.
const DEBOUNCE: Duration = Duration::from_millis(20);

/// Starts a controller for each scope. The process is ready once the definition is installed.
pub fn start(
    lifecycle: &Lifecycle,
    client: &Client,
    scopes: Vec<Scope>,
    settings: &Settings,
    inquirer: &Inquirer,
    instance: &str,
) {
    let gate = lifecycle.readiness().gate("definition", "not looked for yet");
    let installed = CancellationToken::new();
    lifecycle.spawn_detached(wait_for_definition(
        client.clone(),
        gate,
        installed.clone(),
        lifecycle.closing().clone(),
    ));
    for scope in scopes {
        let control = control_scope(
            client.clone(),
            scope,
            settings.clone(),
            inquirer.clone(),
            Events::new(client.clone(), instance.to_owned()),
            installed.clone(),
            lifecycle.closing().clone(),
        );
        lifecycle.spawn("controller", control);
    }
}

/// A watch on a kind that does not exist fails for ever, and says so in riddles.
async fn wait_for_definition(
    client: Client,
    gate: Gate,
    installed: CancellationToken,
    closing: CancellationToken,
) {
    let definitions: Api<CustomResourceDefinition> = Api::all(client);
    let mut last = String::new();
    while !closing.is_cancelled() {
        let problem = match definitions.get_opt(DEFINITION).await {
            Ok(Some(_)) => {
                gate.open();
                installed.cancel();
                return;
            }
            Ok(None) => format!("{DEFINITION} is not installed; apply crds/hardwareportals.yaml"),
            Err(error) => format!("failed to look for {DEFINITION}: {error}"),
        };
        if problem != last {
            warn!("{problem}");
            gate.close(problem.clone());
            last = problem;
        }
        let pause = sleep(Duration::from_secs(2));
        if closing.run_until_cancelled(pause).await.is_none() {
            return;
        }
    }
}

async fn control_scope(
    client: Client,
    scope: Scope,
    settings: Settings,
    inquirer: Inquirer,
    events: Events,
    installed: CancellationToken,
    closing: CancellationToken,
) {
    if closing.run_until_cancelled(installed.cancelled()).await.is_none() {
        return;
    }
    let (cache, moves) = Cache::watch(&client, &scope);
    let portals: Api<Guarded> = match &scope {
        Scope::Namespace(name) => Api::namespaced(client.clone(), name),
        Scope::Cluster => Api::all(client.clone()),
    };
    let context = Arc::new(Context {
        sources: Sources::new(client.clone(), settings.aws_endpoint.clone()),
        rotator: Rotator::new(client.clone(), inquirer),
        applier: Applier::new(client.clone()),
        client,
        settings,
        cache,
        events,
        retries: Retries::default(),
    });
    info!(?scope, "watching");
    let controller = Controller::new(portals, watcher::Config::default())
        .with_config(Config::default().debounce(DEBOUNCE).concurrency(CONCURRENCY))
        .reconcile_on(moves)
        .graceful_shutdown_on(closing.clone().cancelled_owned());
    let upkeep = keep_up(controller.store(), Arc::clone(&context), closing);
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
async fn keep_up(portals: Store<Guarded>, context: Arc<Context>, closing: CancellationToken) {
    let mut ticks = interval(Duration::from_secs(10));
    while closing.run_until_cancelled(ticks.tick()).await.is_some() {
        let state = portals.state();
        let uids: Vec<String> = state.iter().filter_map(|portal| portal.uid()).collect();
        let is_alive = |uid: &str| uids.iter().any(|alive| alive == uid);
        context.applier.retain(is_alive);
        context.rotator.retain(is_alive);
        context.retries.retain(is_alive);
        let is_ready = |portal: &Guarded| {
            let status = portal.0.as_ref().ok().and_then(|portal| portal.status.as_ref());
            let conditions = status.map(|status| status.conditions.as_slice()).unwrap_or_default();
            conditions.iter().any(|one| one.type_ == "Ready" && one.status == "True")
        };
        let ready = state.iter().filter(|portal| is_ready(portal)).count();
        #[expect(clippy::cast_precision_loss, reason = "no cluster holds 2^52 portals")]
        for (label, count) in [("true", ready), ("false", state.len() - ready)] {
            gauge!("portals", "ready" => label).set(count as f64);
        }
    }
}
