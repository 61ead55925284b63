//! Events of the API group events.k8s.io.

use k8s_openapi::{
    api::{core::v1::ObjectReference, events::v1::Event},
    apimachinery::pkg::apis::meta::v1::MicroTime,
};
use kube::{
    Api, Client,
    api::{ObjectMeta, PostParams},
};
use tracing::warn;

/// Most bytes of a note that the API accepts.
const LONGEST_NOTE: usize = 1024;

/// Writes events in the portals' namespaces.
#[derive(Clone)]
pub struct Events {
    client: Client,
    instance: String,
}

impl Events {
    /// Events that name `instance`, the operator's pod, as their reporter.
    #[must_use]
    pub fn new(client: Client, instance: String) -> Self {
        Self { client, instance }
    }

    /// Publishes an event about an object. A failure is only logged, as the status holds the same message.
    pub async fn publish(
        &self,
        regarding: ObjectReference,
        is_good: bool,
        reason: &str,
        note: String,
    ) {
        let namespace = regarding.namespace.clone().unwrap_or_default();
        let name = regarding.name.clone().unwrap_or_default();
        let event = self.event(regarding, is_good, reason, note);
        let events: Api<Event> = Api::namespaced(self.client.clone(), &namespace);
        if let Err(error) = events.create(&PostParams::default(), &event).await {
            warn!(namespace, name, %error, "failed to publish an event");
        }
    }

    fn event(
        &self,
        regarding: ObjectReference,
        is_good: bool,
        reason: &str,
        mut note: String,
    ) -> Event {
        note.truncate(note.floor_char_boundary(LONGEST_NOTE));
        Event {
            metadata: ObjectMeta {
                generate_name: regarding.name.as_ref().map(|name| format!("{name}-")),
                namespace: regarding.namespace.clone(),
                ..ObjectMeta::default()
            },
            action: Some("Reconcile".to_owned()),
            event_time: Some(MicroTime(jiff::Timestamp::now())),
            note: Some(note),
            reason: Some(reason.to_owned()),
            regarding: Some(regarding),
            reporting_controller: Some("gill-hicks.dev/operator".to_owned()),
            reporting_instance: Some(self.instance.clone()),
            type_: Some(if is_good { "Normal" } else { "Warning" }.to_owned()),
            ..Event::default()
        }
    }
}
