//! Sources that a portal asks for: what they count, compared with the scheduler and with a second computation.

use std::{collections::BTreeMap, time::Duration};

use anyhow::{Context, Result, ensure};
use crds::HardwarePortal;
use e2e::{
    Namespace, fake_nodes,
    namespace::expect_condition,
    node::{self, Hung, Partition},
    program::{read_page, run_in_shell},
    wait::eventually,
};
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::{
    Api, ResourceExt,
    api::{DeleteParams, ListParams, Patch, PatchParams, PostParams},
};
use serde_json::{Value, json};

/// How soon what happens in the cluster has to be seen.
const SEEN: Duration = Duration::from_secs(15);

/// Free and total units of each pool, by "NAME UNIT".
type Pools = BTreeMap<String, (u64, u64)>;

/// Lets the collector of a portal see the cluster, until this is dropped.
struct Grant {
    name: String,
}

impl Grant {
    /// Runs the command that the portal's condition shows, as an administrator would.
    fn run(command: &str) -> Result<Self> {
        let name = command.split_whitespace().nth(3).context("the command names a binding")?;
        run_in_shell(command)?;
        Ok(Self { name: name.to_owned() })
    }

    /// Lets it see without having been asked.
    fn give(namespace: &Namespace, portal: &str) -> Result<Self> {
        let space = namespace.name();
        let name = format!("gill-hicks-collector-{space}-{portal}");
        run_in_shell(&format!("kubectl delete clusterrolebinding {name} --ignore-not-found"))?;
        Self::run(&format!(
            "kubectl create clusterrolebinding {name} --clusterrole=gill-hicks-collector \
             --serviceaccount={space}:{portal}-collector"
        ))
    }

    /// Takes the right away.
    fn withdraw(&self) -> Result<()> {
        run_in_shell(&format!("kubectl delete clusterrolebinding {}", self.name)).map(drop)
    }
}

impl Drop for Grant {
    fn drop(&mut self) {
        let command = format!("kubectl delete clusterrolebinding {} --ignore-not-found", self.name);
        if let Err(error) = run_in_shell(&command) {
            eprintln!("a binding is left: {error:#}");
        }
    }
}

/// What the API of a portal says of the pools of `tier:owned`, and the level of each.
async fn reported(namespace: &Namespace, portal: &str) -> Result<(Pools, BTreeMap<String, Value>)> {
    let url = namespace.url(&format!("{portal}-hardware")).await?;
    let url = format!("{url}/v1/availability?tier=owned&limit=200");
    let page: Value = reqwest::get(&url).await?.error_for_status()?.json().await?;
    let items = page["items"].as_array().with_context(|| format!("{page}"))?;
    let (mut pools, mut rows) = (Pools::new(), BTreeMap::new());
    for item in items {
        let text = |field: &str| item[field].as_str().unwrap_or_default();
        let name = format!("{} {}", text("name"), text("unit"));
        let number = |field: &str| item[field].as_u64().unwrap_or_default();
        pools.insert(name.clone(), (number("free"), number("total")));
        rows.insert(name, item.clone());
    }
    Ok((pools, rows))
}

/// The same, computed a second time from what kubectl shows.
fn computed(arguments: &str) -> Result<Pools> {
    let said = run_in_shell(&format!(
        "kubectl get nodes,pods --all-namespaces --output json | \
         python3 tests/on_cluster/sources/slots.py {arguments}"
    ))?;
    Ok(serde_json::from_str(&said)?)
}

async fn wait_for_agreement(namespace: &Namespace, portal: &str, arguments: &str) -> Result<Pools> {
    eventually("what is reported is what is there", SEEN, async || {
        let (reported, _) = reported(namespace, portal).await?;
        let computed = computed(arguments)?;
        ensure!(reported == computed, "reported {reported:?}, computed {computed:?}");
        Ok(reported)
    })
    .await
}

async fn portal_with(namespace: &Namespace, name: &str, condition: &str) -> Result<HardwarePortal> {
    eventually(&format!("SourcesReporting={condition}"), Duration::from_mins(3), async || {
        let portal: HardwarePortal = namespace.api().get(name).await?;
        expect_condition(&portal, "SourcesReporting", condition)?;
        Ok(portal)
    })
    .await
}

/// The least that a user can write, on the real node.
#[tokio::test]
async fn the_slots_of_this_cluster_are_shown_once_an_administrator_allows_it() -> Result<()> {
    let namespace = Namespace::open("e2e-sources").await?;
    let sources = json!({"sources": [{"kubernetes": {}}]});
    namespace.apply_portal("here", sources).await?;
    namespace.wait_until_ready("here").await?;
    let condition = eventually("the missing right is named", Duration::from_mins(3), async || {
        let portal: HardwarePortal = namespace.api().get("here").await?;
        let condition = expect_condition(&portal, "SourcesReporting", "False")?;
        ensure!(
            condition.reason == "SourceForbidden",
            "{}: {}",
            condition.reason,
            condition.message
        );
        Ok(condition)
    })
    .await?;
    let command = condition.message.find("kubectl create clusterrolebinding");
    let command = command.with_context(|| condition.message.clone())?;
    let grant = Grant::run(condition.message[command..].trim_end_matches('.'))?;
    portal_with(&namespace, "here", "True").await?;
    let pools = wait_for_agreement(&namespace, "here", "1 2Gi").await?;
    ensure!(pools.values().any(|(_, total)| *total > 0), "the node has slots: {pools:?}");

    // A right that is withdrawn makes levels UNKNOWN, and never full.
    grant.withdraw()?;
    eventually("UNKNOWN, and why", Duration::from_mins(2), async || {
        let (_, rows) = reported(&namespace, "here").await?;
        for (pool, row) in rows {
            ensure!(row["level"] == "UNKNOWN", "{pool} is {row}");
            let reasons = row["reasons"].to_string();
            let is_told = reasons.contains("_forbidden") && reasons.contains("clusterrolebinding");
            ensure!(is_told, "{pool}: {reasons}");
        }
        Ok(())
    })
    .await?;
    portal_with(&namespace, "here", "False").await?;
    let _grant = Grant::give(&namespace, "here")?;
    portal_with(&namespace, "here", "True").await?;
    wait_for_agreement(&namespace, "here", "1 2Gi").await?;
    namespace.delete_portal("here").await
}

/// A portal that counts the fake nodes of this test alone, in small slots.
async fn watch_fake_nodes(namespace: &Namespace, portal: &str) -> Result<Grant> {
    let grant = Grant::give(namespace, portal)?;
    let kubernetes = json!({
        "provider": "Fake",
        "slot": {"cpu": "500m", "memory": "256Mi"},
        "nodeSelector": {"counted": "yes"},
        "tolerations": [{"key": "kwok.x-k8s.io/node", "operator": "Exists"}],
    });
    namespace.apply_portal(portal, json!({"sources": [{"kubernetes": kubernetes}]})).await?;
    namespace.wait_until_ready(portal).await?;
    portal_with(namespace, portal, "True").await?;
    Ok(grant)
}

const COUNTING: &str = "500m 256Mi counted=yes kwok.x-k8s.io/node";

/// Nodes that kwok plays, on which the pods of no other test are placed.
const NODES: [&str; 2] = ["counted-1", "counted-2"];

async fn create_nodes(namespace: &Namespace) -> Result<()> {
    fake_nodes::expect_some(&namespace.client()).await?;
    delete_nodes(namespace).await?;
    let nodes: Api<Node> = Api::all(namespace.client());
    for name in NODES {
        let resources = json!({"cpu": "8", "memory": "16Gi", "pods": "12"});
        let node: Node = serde_json::from_value(json!({
            "metadata": {
                "name": name,
                "labels": {"counted": "yes", "kubernetes.io/os": "linux", "kubernetes.io/arch": "amd64",
                    "node.kubernetes.io/instance-type": "fake.large"},
                "annotations": {"kwok.x-k8s.io/node": "fake"},
            },
            "spec": {"taints": [{"key": "kwok.x-k8s.io/node", "value": "fake", "effect": "NoSchedule"}]},
            "status": {"capacity": resources, "allocatable": resources},
        }))?;
        nodes.create(&PostParams::default(), &node).await?;
    }
    eventually("the nodes are ready", Duration::from_mins(1), async || {
        let there = nodes.list(&ListParams::default().labels("counted=yes")).await?;
        let is_ready = |node: &Node| {
            let taints = node.spec.as_ref().and_then(|spec| spec.taints.as_ref());
            let conditions =
                node.status.iter().flat_map(|status| status.conditions.iter().flatten());
            taints.is_some_and(|taints| taints.len() == 1)
                && conditions.into_iter().any(|it| it.type_ == "Ready" && it.status == "True")
        };
        ensure!(there.items.len() == NODES.len() && there.iter().all(is_ready));
        Ok(())
    })
    .await
}

async fn delete_nodes(namespace: &Namespace) -> Result<()> {
    let (now, all) = (DeleteParams::default().grace_period(0), ListParams::default());
    namespace.api::<Pod>().delete_collection(&now, &all.labels("part-of=counted")).await?;
    let nodes: Api<Node> = Api::all(namespace.client());
    let ours = ListParams::default().labels("counted=yes");
    nodes.delete_collection(&DeleteParams::default(), &ours).await?;
    eventually("the nodes are gone", Duration::from_mins(1), async || {
        ensure!(nodes.list(&ours).await?.items.is_empty());
        Ok(())
    })
    .await
}

/// Changes a node.
async fn patch_node(namespace: &Namespace, name: &str, patch: Value) -> Result<()> {
    let nodes: Api<Node> = Api::all(namespace.client());
    nodes.patch(name, &PatchParams::default(), &Patch::Merge(patch)).await?;
    Ok(())
}

/// A pod on the counted nodes.
fn pod(name: &str, change: impl FnOnce(&mut Value)) -> Result<Pod> {
    let restricted = json!({"allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}});
    let container = json!({"name": "a", "image": "none", "securityContext": restricted,
        "resources": {"requests": {"cpu": "500m", "memory": "256Mi"}}});
    let mut pod = json!({
        "metadata": {"name": name, "labels": {"part-of": "counted"}},
        "spec": {
            "nodeSelector": {"counted": "yes"},
            "tolerations": [{"key": "kwok.x-k8s.io/node", "operator": "Exists"}],
            "securityContext": {"runAsNonRoot": true, "runAsUser": 1,
                "seccompProfile": {"type": "RuntimeDefault"}},
            "terminationGracePeriodSeconds": 0,
            "containers": [container],
        },
    });
    change(&mut pod);
    Ok(serde_json::from_value(pod)?)
}

/// Pods of these names that the scheduler has placed.
async fn placed(namespace: &Namespace) -> Result<usize> {
    let pods =
        namespace.api::<Pod>().list(&ListParams::default().labels("part-of=counted")).await?;
    Ok(pods.iter().filter(|pod| pod.spec.as_ref().is_some_and(|it| it.node_name.is_some())).count())
}

#[tokio::test]
async fn slots_are_counted_as_the_scheduler_counts_them() -> Result<()> {
    let namespace = Namespace::open("e2e-sources-counted").await?;
    create_nodes(&namespace).await?;
    let outcome = count_as_the_scheduler(&namespace, NODES[0]).await;
    delete_nodes(&namespace).await?;
    outcome?;
    namespace.delete_portal("fake").await
}

async fn count_as_the_scheduler(namespace: &Namespace, first: &str) -> Result<()> {
    let _grant = watch_fake_nodes(namespace, "fake").await?;
    let pods = namespace.api::<Pod>();
    let create = async |pod: Pod| pods.create(&PostParams::default(), &pod).await.map(drop);
    wait_for_agreement(namespace, "fake", COUNTING).await?;

    // Everything that makes a pod larger or smaller than its containers look.
    create(pod("plain", |_| {})?).await?;
    create(pod("limits", |it| {
        it["spec"]["containers"][0]["resources"] =
            json!({"limits": {"cpu": "1200m", "memory": "1Gi"}});
    })?)
    .await?;
    create(pod("nothing", |it| it["spec"]["containers"][0]["resources"] = json!({}))?).await?;
    create(pod("init", |it| {
        let mut init = it["spec"]["containers"][0].clone();
        init["name"] = json!("init");
        init["resources"] = json!({"requests": {"cpu": "1700m", "memory": "64Mi"}});
        let mut sidecar = init.clone();
        sidecar["name"] = json!("sidecar");
        sidecar["restartPolicy"] = json!("Always");
        sidecar["resources"] = json!({"requests": {"cpu": "300m", "memory": "700Mi"}});
        it["spec"]["initContainers"] = json!([sidecar, init]);
    })?)
    .await?;
    create(pod("whole", |it| {
        it["spec"]["resources"] = json!({"requests": {"cpu": "2", "memory": "2Gi"}});
    })?)
    .await?;
    create(pod("stays", |it| {
        it["metadata"]["finalizers"] = json!(["gill-hicks.dev/e2e"]);
    })?)
    .await?;
    eventually("all are placed", Duration::from_mins(1), async || {
        ensure!(placed(namespace).await? == 6);
        Ok(())
    })
    .await?;
    let before = wait_for_agreement(namespace, "fake", COUNTING).await?;

    // One that has ended takes nothing; one that is being ended still does.
    let ended = json!({"status": {"phase": "Succeeded"}});
    pods.patch_status("limits", &PatchParams::default(), &Patch::Merge(ended)).await?;
    pods.delete("stays", &DeleteParams::default()).await?;
    let after = eventually("the end of a pod is seen", SEEN, async || {
        let (after, _) = reported(namespace, "fake").await?;
        ensure!(after != before, "still {after:?}");
        Ok(after)
    })
    .await?;
    ensure!(after == computed(COUNTING)?, "{after:?}");
    let released = json!({"metadata": {"finalizers": null}});
    pods.patch("stays", &PatchParams::default(), &Patch::Merge(released)).await?;

    // The scheduler places as many pods of one slot as are said to be free, and no more.
    let free = wait_for_agreement(namespace, "fake", COUNTING).await?;
    let (free, _) = *free.get("fake.large slot").context("slots")?;
    let others = placed(namespace).await?;
    for number in 0..free + 3 {
        create(pod(&format!("one-{number}"), |_| {})?).await?;
    }
    eventually("no pod finds a place any more", Duration::from_mins(1), async || {
        let (pools, _) = reported(namespace, "fake").await?;
        let (left, _) = *pools.get("fake.large slot").context("slots")?;
        let placed = placed(namespace).await? - others;
        ensure!(left == 0 && placed as u64 == free, "{left} of {free} are free, {placed} placed");
        Ok(())
    })
    .await?;
    wait_for_agreement(namespace, "fake", COUNTING).await?;
    let all = ListParams::default().labels("part-of=counted");
    pods.delete_collection(&DeleteParams::default(), &all).await?;

    let whole = wait_for_agreement(namespace, "fake", COUNTING).await?;
    count_gpus_and_closed_nodes(namespace, first, &whole).await
}

async fn count_gpus_and_closed_nodes(
    namespace: &Namespace,
    node: &str,
    whole: &Pools,
) -> Result<()> {
    let slots = |pools: &Pools| pools.get("fake.large slot").map_or(0, |(_, total)| *total);
    let half = |pools: &Pools| ensure_half(slots(pools), slots(whole));
    // GPUs are extended resources, which nobody but the kubelet or this may set.
    let nodes: Api<Node> = Api::all(namespace.client());
    let gpus = json!({"status": {"capacity": {"nvidia.com/gpu": "8"},
        "allocatable": {"nvidia.com/gpu": "8"}}});
    nodes.patch_status(node, &PatchParams::default(), &Patch::Merge(gpus)).await?;
    let product = json!({"metadata": {"labels": {"nvidia.com/gpu.product": "NVIDIA-H100-80GB"}}});
    patch_node(namespace, node, product).await?;
    let of_gpus = pod("gpus", |it| {
        let resources = json!({"limits": {"nvidia.com/gpu": "3"}});
        it["spec"]["containers"][0]["resources"] = resources;
    })?;
    namespace.api::<Pod>().create(&PostParams::default(), &of_gpus).await?;
    eventually("5 of 8 GPUs are free", Duration::from_secs(30), async || {
        let (pools, _) = reported(namespace, "fake").await?;
        let gpus = pools.get("NVIDIA-H100-80GB gpu").with_context(|| format!("{pools:?}"))?;
        ensure!(*gpus == (5, 8), "{gpus:?}");
        Ok(())
    })
    .await?;
    wait_for_agreement(namespace, "fake", COUNTING).await?;
    let pods = namespace.api::<Pod>();
    pods.delete("gpus", &DeleteParams::default()).await?;
    let removed = json!({"status": {"capacity": {"nvidia.com/gpu": null},
        "allocatable": {"nvidia.com/gpu": null}}});
    nodes.patch_status(node, &PatchParams::default(), &Patch::Merge(removed)).await?;

    // A cordon, a taint and a node that is not ready close it.
    patch_node(namespace, node, json!({"spec": {"unschedulable": true}})).await?;
    half(&wait_for_change(namespace, slots, slots(whole)).await?)?;
    patch_node(namespace, node, json!({"spec": {"unschedulable": null}})).await?;
    wait_until_whole(namespace, slots, slots(whole)).await?;
    let taints = json!([{"key": "kwok.x-k8s.io/node", "value": "fake", "effect": "NoSchedule"},
        {"key": "team", "value": "other", "effect": "NoSchedule"}]);
    patch_node(namespace, node, json!({"spec": {"taints": taints}})).await?;
    half(&wait_for_change(namespace, slots, slots(whole)).await?)
}

fn ensure_half(found: u64, whole: u64) -> Result<()> {
    ensure!(found * 2 == whole, "{found} of {whole} slots");
    Ok(())
}

async fn wait_for_change(
    namespace: &Namespace,
    slots: impl Fn(&Pools) -> u64,
    before: u64,
) -> Result<Pools> {
    eventually("the node is closed", SEEN, async || {
        let (pools, _) = reported(namespace, "fake").await?;
        ensure!(slots(&pools) != before, "{pools:?}");
        ensure!(pools == computed(COUNTING)?, "{pools:?}");
        Ok(pools)
    })
    .await
}

async fn wait_until_whole(
    namespace: &Namespace,
    slots: impl Fn(&Pools) -> u64,
    whole: u64,
) -> Result<()> {
    eventually("the node is open again", SEEN, async || {
        let (pools, _) = reported(namespace, "fake").await?;
        ensure!(slots(&pools) == whole, "{pools:?}");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_collector_that_died_was_paused_or_cut_off_goes_on_and_invents_nothing() -> Result<()> {
    let namespace = Namespace::open("e2e-sources-cut").await?;
    let _grant = Grant::give(&namespace, "cut")?;
    namespace.apply_portal("cut", json!({"sources": [{"kubernetes": {}}]})).await?;
    namespace.wait_until_ready("cut").await?;
    portal_with(&namespace, "cut", "True").await?;
    let collector = || async {
        let pods = namespace.running_pods("cut", "collector").await?;
        pods.into_iter().next().context("a collector runs")
    };

    // Killed, and paused until the kubelet replaces it: the next one says everything anew.
    for how in ["killed", "paused"] {
        let pod = collector().await?;
        let before = restarts(&namespace, &pod).await?;
        let hung = if how == "killed" {
            node::kill(&pod)?;
            None
        } else {
            Some(Hung::hang(&pod)?)
        };
        eventually(
            &format!("it runs again after it was {how}"),
            Duration::from_mins(2),
            async || {
                let restarts = restarts(&namespace, &pod).await?;
                ensure!(restarts > before, "{restarts} restarts");
                Ok(())
            },
        )
        .await?;
        // The process is gone, and there is nothing to let go on.
        std::mem::forget(hung);
        portal_with(&namespace, "cut", "True").await?;
        wait_for_agreement(&namespace, "cut", "1 2Gi").await?;
    }

    // Cut off from the API server it says nothing, and the portal names it.
    let last = last_report(&namespace).await?;
    let cut = Partition::begin(&collector().await?)?;
    let portal = portal_with(&namespace, "cut", "False").await?;
    let condition = expect_condition(&portal, "SourcesReporting", "False")?;
    let (reason, message) = (&condition.reason, &condition.message);
    ensure!(
        reason == "SourceSilent" && message.contains("source kubernetes"),
        "{reason}: {message}"
    );
    // Until the silence is a gap by the definition of levels.
    let now = || k8s_openapi::jiff::Timestamp::now().as_second();
    eventually("two minutes of silence", Duration::from_mins(4), async || {
        let silent = last_report(&namespace).await?;
        ensure!(silent - last < 60, "it went on reporting for {} s", silent - last);
        ensure!(now() - silent > 140, "{} s", now() - silent);
        Ok(())
    })
    .await?;
    drop(cut);
    portal_with(&namespace, "cut", "True").await?;
    wait_for_agreement(&namespace, "cut", "1 2Gi").await?;
    ensure_gaps_are_no_history(&namespace).await?;
    namespace.delete_portal("cut").await
}

/// How often the container of a pod was started again.
async fn restarts(namespace: &Namespace, pod: &Pod) -> Result<i32> {
    let pod = namespace.api::<Pod>().get_status(&pod.name_any()).await?;
    let statuses = pod.status.and_then(|status| status.container_statuses);
    let status = statuses.and_then(|all| all.into_iter().next()).context("a status")?;
    Ok(status.restart_count)
}

/// When the source was last heard, in seconds since 1970.
async fn last_report(namespace: &Namespace) -> Result<i64> {
    let url = namespace.url("cut-hardware").await?;
    let sources: Value = reqwest::get(format!("{url}/v1/sources")).await?.json().await?;
    let source = sources["items"]
        .as_array()
        .and_then(|all| all.iter().find(|source| source["name"] == "kubernetes"));
    let seen = source.and_then(|source| source["last_seen"].as_str());
    let seen = seen.with_context(|| format!("{sources}"))?;
    Ok(seen.parse::<k8s_openapi::jiff::Timestamp>()?.as_second())
}

/// What was not observed is neither free nor full: between two segments of the history there is nothing.
async fn ensure_gaps_are_no_history(namespace: &Namespace) -> Result<()> {
    let url = namespace.url("cut-hardware").await?;
    let (_, rows) = reported(namespace, "cut").await?;
    let id = rows.values().next().and_then(|row| row["id"].as_str()).context("a pool")?;
    let history: Value = reqwest::get(format!("{url}/v1/pools/{id}/history")).await?.json().await?;
    let source = &history["sources"][0];
    let segments = source["segments"].as_array().with_context(|| format!("{history}"))?;
    let time = |segment: &Value, field: &str| -> Result<i64> {
        let text = segment[field].as_str().context("a time")?;
        Ok(text.parse::<k8s_openapi::jiff::Timestamp>()?.as_second())
    };
    for pair in segments.windows(2) {
        if time(&pair[1], "started")? - time(&pair[0], "last_seen")? > 120 {
            return Ok(());
        }
    }
    anyhow::bail!("the silence is no gap: {history}")
}

/// The commands of docs/sources.md that anybody may run.
#[tokio::test]
async fn the_documented_dry_run_shows_what_would_be_posted() -> Result<()> {
    let page = read_page("sources.md")?;
    let command = page.lines().find(|line| line.contains("/collector check"));
    let command = command.context("docs/sources.md shows a dry run")?;
    Namespace::keep("gill-hicks").await?.wait_until_ready("demo").await?;
    let said = run_in_shell(command)?;
    ensure!(said.contains("ok    kubernetes:") && said.contains("slot"), "it said: {said}");
    Ok(())
}
