//! Lets each request, or each chunk of what is said to the database, go wrong while a portal at rest
//! changes its credential. Whatever it is: the rotation ends, and one login is left.

use std::time::Duration;

use anyhow::{Result, ensure};
use crds::RotationOutcome;
use e2e::{
    fault::{Fault, Faults},
    in_process::Operator,
    proxy::Proxy,
    rotation::{last_rotation, published, wait_for_rotation},
    source,
    wait::eventually,
};
use futures::{StreamExt, TryStreamExt, stream};
use serde_json::json;
use tokio::time::sleep;

use super::{
    scenario::on_mysql,
    walk::{SETTLED, Server, Site, Tried, Walker, cases, expect_struck, failures, try_all},
};

/// Cases at the same time, each in a namespace of its own.
const WALKERS: usize = 6;
const REST: Duration = Duration::from_secs(1);
const PORTAL: &str = "rotated";

/// Walks through every request to the API server, or every chunk of what is said to the database.
pub(super) async fn walk(mode: &str, site: Site) -> Result<()> {
    let prefix = format!("e2e-fault-{mode}-{site}").to_lowercase();
    let server = Server::prepare(&prefix.replace('-', "_")).await?;
    let walkers: Vec<Rotating> = stream::iter(0..WALKERS)
        .map(|number| Rotating::open(format!("{prefix}-{number}"), mode, site, &server))
        .buffered(WALKERS)
        .try_collect()
        .await?;
    // How often the sessions are looked at depends on how busy the machine is: the fewer places of two
    // rotations are those that every rotation has.
    let places = walkers[0].rotate(None).await?.places.min(walkers[0].rotate(None).await?.places);
    let cases = cases(site, places);
    let count = cases.len();
    let try_one = async |walker: &Rotating, fault, k| walker.rotate(Some((fault, k))).await;
    let (results, walkers) = try_all(walkers, mode, site, cases, try_one).await;
    let failures = failures(&results);
    println!(
        "{mode}: {count} faults over {places} {site}s of a rotation, {} failed",
        failures.len()
    );
    for walker in walkers {
        walker.close().await?;
    }
    ensure!(failures.is_empty(), "{}", failures.join("\n"));
    expect_struck(&results)
}

/// A portal at rest, on a database behind a proxy.
struct Rotating {
    walker: Walker,
    server: Server,
    site: Site,
    /// What befalls connections to the database.
    on_database: Faults,
    _proxy: Proxy,
    uid: String,
}

impl Rotating {
    async fn open(name: String, mode: &str, site: Site, server: &Server) -> Result<Self> {
        let walker = Walker::open(&name).await?;
        let (database, schema) = (&server.database, server.name.as_str());
        let host = database.get("MYSQL_HOST")?;
        let address = format!("{host}:{}", database.get("MYSQL_PORT")?);
        let on_database = Faults::default();
        let proxy = Proxy::start(host.parse()?, &address, &on_database).await?;

        let (namespace, allow) = (walker.namespace(), source::allow(PORTAL));
        source::offer(namespace, database, schema, &server.password, allow.clone()).await?;
        let mut data = source::data(database, schema, schema, &server.password)?;
        data["MYSQL_PORT"] = json!(proxy.address().port().to_string());
        namespace.apply_secret("db", allow, data).await?;

        let mut spec = on_mysql();
        spec["database"]["mysql"]["rotation"]["mode"] = json!(mode);
        let operator = Operator::start(namespace.name(), &Faults::default()).await?;
        let uid = walker.apply(PORTAL, &spec).await?;
        last_rotation(namespace, PORTAL).await?;
        eventually(&format!("a portal at rest in {name}"), SETTLED, async || {
            walker.expect_rest(PORTAL).await
        })
        .await?;
        operator.stop().await?;
        Ok(Self { walker, server: server.clone(), site, on_database, _proxy: proxy, uid })
    }

    async fn close(self) -> Result<()> {
        let operator = Operator::start(self.walker.namespace().name(), &Faults::default()).await?;
        self.walker.remove(PORTAL).await?;
        operator.stop().await
    }

    /// Rotates once, while something goes wrong, and gives the requests or chunks that it took.
    async fn rotate(&self, plan: Option<(Fault, usize)>) -> Result<Tried> {
        let namespace = self.walker.namespace();
        let on_requests = Faults::default();
        let mut operator = Operator::start(namespace.name(), &on_requests).await?;
        eventually("an operator at rest", SETTLED, async || {
            let before = on_requests.all_requests();
            sleep(REST).await;
            ensure!(on_requests.all_requests() == before, "requests are still made");
            Ok(())
        })
        .await?;
        let last = last_rotation(namespace, PORTAL).await?;
        let (_, before) = published(namespace, PORTAL).await?;
        let faults = match self.site {
            Site::Request => &on_requests,
            Site::Chunk => &self.on_database,
        };
        faults.arm(plan);
        namespace.ask_for_rotation(PORTAL).await?;
        // A run may need fewer requests than the one that was counted: then the fault does not strike.
        let rotated = tokio::select! {
            biased;
            () = faults.crashed() => {
                operator.crash().await?;
                faults.heal();
                operator = Operator::start(namespace.name(), &on_requests).await?;
                wait_for_rotation(namespace, PORTAL, last.generation).await?
            }
            rotated = wait_for_rotation(namespace, PORTAL, last.generation) => rotated?,
        };
        let tried = Tried {
            fault_at: plan.map(|(_, at)| at),
            places: faults.requests(),
            struck: faults.has_struck(),
        };
        faults.heal();
        ensure!(rotated.outcome == RotationOutcome::Completed, "it ended otherwise: {rotated:?}");
        self.expect_one_login(&before).await?;
        operator.stop().await?;
        Ok(tried)
    }

    /// What the pods are given works, nothing else does, and no account is left over.
    async fn expect_one_login(&self, before: &[(String, String)]) -> Result<()> {
        let database = &self.server.database;
        // If the write that takes the dead login out of the pods' file fails, it is tried again after
        // the end of the rotation was told.
        let now = eventually("one published login", SETTLED, async || {
            let (_, now) = published(self.walker.namespace(), PORTAL).await?;
            ensure!(now.len() == 1, "{} logins are published", now.len());
            Ok(now)
        })
        .await?;
        let (user, password) = &now[0];
        database.connect(user, password).await?.disconnect().await?;
        for (user, password) in before {
            database.expect_denied(user, password).await?;
        }
        let accounts = self.server.accounts(&self.uid).await?;
        let open: Vec<&String> =
            accounts.iter().filter(|(_, is_locked)| !**is_locked).map(|(slot, _)| slot).collect();
        ensure!(
            open.len() == 1 && user.ends_with(&format!("_{}", open[0])),
            "{user} is published; open are {open:?} of {accounts:?}"
        );
        ensure!(!accounts.contains_key("o"), "the migration's account is left");
        Ok(())
    }
}
