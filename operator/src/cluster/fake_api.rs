//! An API server of a few objects, for tests of what is asked and what is made of the answers.

use std::{
    collections::BTreeMap,
    convert::Infallible,
    sync::{Arc, Mutex},
};

use http::{Request, Response, header::ACCEPT};
use kube::{Client, client::Body};
use serde_json::{Value, json};
use tower::service_fn;

#[derive(Clone, Default)]
pub(crate) struct FakeApi {
    objects: Arc<Mutex<BTreeMap<String, Value>>>,
    requests: Arc<Mutex<Vec<String>>>,
}

impl FakeApi {
    /// Stores an object under the path at which it is read.
    pub(crate) fn with(self, path: &str, object: Value) -> Self {
        self.objects.lock().unwrap().insert(path.to_owned(), object);
        self
    }

    /// Every request so far: `metadata PATH` or `object PATH`.
    pub(crate) fn requests(&self) -> Vec<String> {
        self.requests.lock().unwrap().clone()
    }

    pub(crate) fn client(&self) -> Client {
        let api = self.clone();
        let service = service_fn(move |request: Request<Body>| {
            let answer = api.answer(&request);
            async move { Ok::<_, Infallible>(answer) }
        });
        Client::new(service, "default")
    }

    fn answer(&self, request: &Request<Body>) -> Response<Body> {
        let accept = request.headers().get(ACCEPT).and_then(|value| value.to_str().ok());
        let only_metadata = accept.is_some_and(|accept| accept.contains("PartialObjectMetadata"));
        let path = request.uri().path().to_owned();
        let found = self.objects.lock().unwrap().get(&path).cloned();
        let what = if only_metadata { "metadata" } else { "object" };
        self.requests.lock().unwrap().push(format!("{what} {path}"));
        let (code, body) = match found {
            Some(Value::String(text)) => (200, text),
            Some(object) if object["code"].is_number() => {
                let code = object["code"].as_u64().and_then(|code| u16::try_from(code).ok());
                (code.unwrap_or(500), object.to_string())
            }
            Some(object) if only_metadata => {
                let partial = json!({
                    "apiVersion": "meta.k8s.io/v1", "kind": "PartialObjectMetadata",
                    "metadata": object["metadata"],
                });
                (200, partial.to_string())
            }
            Some(object) => (200, object.to_string()),
            None => (404, failure(404, "NotFound", "not found").to_string()),
        };
        Response::builder().status(code).body(Body::from(body.into_bytes())).expect("an answer")
    }
}

/// What the API server says instead of an object.
pub(crate) fn failure(code: u16, reason: &str, message: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Status", "status": "Failure",
        "code": code, "reason": reason, "message": message,
    })
}
