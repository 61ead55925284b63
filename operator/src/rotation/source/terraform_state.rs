//! The state that terraform's backend "kubernetes" keeps in Secrets of the portal's namespace.
//!
//! As terraform 1.11.4 was seen to do it: the backend compresses the state with gzip, cuts the result
//! at 1 MiB, and writes the pieces under the key `tfstate` of the Secrets `tfstate-WORKSPACE-SUFFIX`,
//! `…-part-1`, `…-part-2` and so on, one after the other, each of which it creates empty and then
//! fills. Pieces that a shorter state no longer needs are deleted after that. Its `labels` are on every
//! piece. It holds the Lease `lock-tfstate-WORKSPACE-SUFFIX` all the while: `holderIdentity` is the
//! lock's id, and absent when nobody holds it.

mod document;
mod inflate;

use std::{collections::BTreeMap, ops::ControlFlow};

use crds::{TerraformOutputs, TerraformStateSource};
use k8s_openapi::api::{coordination::v1::Lease, core::v1::Secret};
use kube::Api;
use service_kit::credentials::{Candidate, Problem};
use tokio::sync::Semaphore;

use self::{
    document::{Document, Value},
    inflate::{Fault, Inflater, MOST_BYTES},
};
use super::{
    Reading, Request, SourceError, StateVersion, bounds,
    permission::{Holder, host_named_on},
    secret::{describe, get_allowed},
};

/// Key of the Secrets.
const KEY: &str = "tfstate";
/// Most Secrets of one state. Each holds 1 MiB at most.
const MOST_PIECES: usize = 16;

/// What a state says. Its reading has no login if the state refers to a secret instead.
#[derive(Debug)]
pub struct StateReading {
    /// The state, for messages.
    pub what: String,
    /// Place, version and login.
    pub reading: Reading,
    /// ARN of the secret in AWS Secrets Manager that holds the login, if the state does not.
    pub password_secret_arn: Option<String>,
}

/// Reads the outputs of a state that nobody is writing. A state may be large, so one is read at a time:
/// `turn` has a single permit.
pub async fn read(
    secrets: &Api<Secret>,
    leases: &Api<Lease>,
    source: &TerraformStateSource,
    request: &Request<'_>,
    turn: &Semaphore,
) -> Result<StateReading, SourceError> {
    let base = format!("{KEY}-{}-{}", source.workspace, source.secret_suffix);
    let what = format!("the terraform state in the Secret \"{base}\"");
    let names = source.outputs.clone().unwrap_or_default();
    // In the middle of a run terraform also writes states of which some outputs are old. Such a one
    // could be read just before the lock is released, or just after it is taken.
    expect_unlocked(leases, &base, &what).await?;
    let state = {
        let _permit = turn.acquire().await.expect("nobody closes it");
        let Stored { text, named_host } =
            read_pieces(secrets, &base, &what, request.portal).await?;
        State { named_host, ..parse(&what, &text, &names)? }
    };
    expect_unlocked(leases, &base, &what).await?;
    judge(request.known_state, &state.version, request.accepted_lineage)
        .map_err(|judgement| judgement.of(&what))?;
    state.select(what, Holder::secret(describe(&base)), &names)
}

/// What the Secrets of a state hold.
struct Stored {
    text: Vec<u8>,
    /// The host that the first of them names.
    named_host: Option<String>,
}

/// Gets the Secrets one by one, in the order of their numbers: the operator may not list Secrets, and
/// a list would be ordered by name, `-part-10` before `-part-2`.
async fn read_pieces(
    secrets: &Api<Secret>,
    base: &str,
    what: &str,
    portal: &str,
) -> Result<Stored, SourceError> {
    let mut inflater = Inflater::new();
    let mut named_host = None;
    for index in 0.. {
        if index == MOST_PIECES {
            return Err(Fault::TooLarge.of(what));
        }
        let name = if index == 0 { base.to_owned() } else { format!("{base}-part-{index}") };
        let Some(mut secret) = get_allowed(secrets, &name, portal).await? else {
            if index == 0 {
                return Err(SourceError::NotFound { what: what.to_owned() });
            }
            break;
        };
        let piece = secret.data.as_mut().and_then(|data| data.remove(KEY)).unwrap_or_default().0;
        if index == 0 {
            named_host = host_named_on(&secret.metadata);
            // The backend creates the Secret first and fills it then.
            if piece.is_empty() {
                return Err(Fault::Incomplete("its Secret holds nothing yet").of(what));
            }
        }
        if inflater.take(&piece).map_err(|fault| fault.of(what))? == ControlFlow::Break(()) {
            break;
        }
    }
    let text = inflater.finish().map_err(|fault| fault.of(what))?;
    Ok(Stored { text, named_host })
}

async fn expect_unlocked(leases: &Api<Lease>, base: &str, what: &str) -> Result<(), SourceError> {
    let name = format!("lock-{base}");
    let lease = leases.get_opt(&name).await;
    let lease =
        lease.map_err(|error| SourceError::of_api(&format!("the Lease \"{name}\""), &error))?;
    let holder = lease.and_then(|lease| lease.spec).and_then(|spec| spec.holder_identity);
    match holder {
        Some(holder) if !holder.is_empty() => Err(SourceError::StateLocked {
            what: what.to_owned(),
            holder: holder.chars().take(64).collect(),
        }),
        _ => Ok(()),
    }
}

impl Fault {
    fn of(self, what: &str) -> SourceError {
        let what = what.to_owned();
        match self {
            Self::TooLarge => SourceError::Invalid {
                what,
                problem: format!(
                    "expected at most {} MiB, found more; keep the database in a smaller state of its own",
                    MOST_BYTES >> 20
                ),
            },
            Self::Incomplete(problem) => {
                SourceError::StateIncomplete { what, problem: problem.to_owned() }
            }
        }
    }
}

/// The parts of a state that matter here.
struct State {
    version: StateVersion,
    outputs: BTreeMap<String, Value>,
    /// The host that its Secret names.
    named_host: Option<String>,
}

fn parse(what: &str, text: &[u8], names: &TerraformOutputs) -> Result<State, SourceError> {
    let invalid = |problem: String| SourceError::Invalid { what: what.to_owned(), problem };
    let TerraformOutputs { host, port, username, password, database, password_secret_arn } = names;
    let names = [host, port, username, password, database, password_secret_arn];
    let document = Document::parse(text, &names.map(String::as_str)).map_err(|error| {
        SourceError::StateIncomplete {
            what: what.to_owned(),
            problem: format!("expected the JSON of a state, found {}", Problem::from(&error)),
        }
    })?;
    if document.is_encrypted {
        return Err(SourceError::StateEncrypted { what: what.to_owned() });
    }
    match document.version {
        Some(4) => {}
        Some(other) => {
            return Err(invalid(format!(
                "expected version 4 of the state's format, as terraform 0.12 and later write it, found {other}"
            )));
        }
        None => return Err(invalid("expected a state, found JSON without a version".to_owned())),
    }
    // It becomes part of the status and of messages.
    let lineage = document
        .lineage
        .filter(|text| (1..=64).contains(&text.len()) && text.chars().all(|c| c.is_ascii_graphic()))
        .ok_or_else(|| invalid("expected a lineage of 1 to 64 characters".to_owned()))?;
    let serial = document.serial.ok_or_else(|| invalid("expected a serial".to_owned()))?;
    Ok(State {
        version: StateVersion { lineage, serial },
        outputs: document.outputs,
        named_host: None,
    })
}

/// Why a state is not the next one after the known one.
#[derive(Debug, PartialEq, Eq)]
pub enum Unacceptable {
    /// Same state, lower serial.
    Outdated {
        /// Its serial.
        found: u64,
        /// The one that was read before.
        known: u64,
    },
    /// Another state.
    LineageChanged {
        /// Its lineage.
        found: String,
        /// The one that was read before.
        known: String,
    },
}

/// Whether a state may take the place of the one that was read before.
pub fn judge(
    stored: Option<&StateVersion>,
    found: &StateVersion,
    accepted_lineage: Option<&str>,
) -> Result<(), Unacceptable> {
    let Some(stored) = stored else { return Ok(()) };
    if stored.lineage != found.lineage {
        // A new state counts from its own beginning.
        return if accepted_lineage == Some(found.lineage.as_str()) {
            Ok(())
        } else {
            Err(Unacceptable::LineageChanged {
                found: found.lineage.clone(),
                known: stored.lineage.clone(),
            })
        };
    }
    if found.serial < stored.serial {
        return Err(Unacceptable::Outdated { found: found.serial, known: stored.serial });
    }
    Ok(())
}

impl Unacceptable {
    fn of(self, what: &str) -> SourceError {
        let what = what.to_owned();
        match self {
            Self::Outdated { found, known } => SourceError::StateOutdated { what, found, known },
            Self::LineageChanged { found, known } => {
                SourceError::StateLineageChanged { what, found, known }
            }
        }
    }
}

impl State {
    /// The outputs of these names as a reading of the Secret that holds the state.
    fn select(
        self,
        what: String,
        holder: Holder,
        names: &TerraformOutputs,
    ) -> Result<StateReading, SourceError> {
        let missing = |problem: String| SourceError::Invalid { what: what.clone(), problem };
        let get = |name: &str, most: usize| self.output(name, most).map_err(&missing);
        let username = get(&names.username, bounds::USERNAME)?;
        let password = get(&names.password, bounds::PASSWORD)?;
        let password_secret_arn = get(&names.password_secret_arn, bounds::SECRET_ID)?;
        let (candidates, password_secret_arn) = match (username, password, password_secret_arn) {
            (Some(username), Some(password), _) => {
                (vec![Candidate { username, password: password.into() }], None)
            }
            (_, None, Some(arn)) => (Vec::new(), Some(arn)),
            (None, Some(_), _) => {
                return Err(missing(format!("expected an output {}, found none", names.username)));
            }
            (_, None, None) => {
                return Err(missing(format!(
                    "expected an output {} or {}, found neither",
                    names.password, names.password_secret_arn
                )));
            }
        };
        let host = get(&names.host, bounds::HOST)?;
        let reading = Reading {
            version: format!("{}/{}", self.version.lineage, self.version.serial),
            allowed_host: host.clone().or_else(|| self.named_host.clone()),
            holder,
            host,
            port: get(&names.port, bounds::PORT)?,
            database: get(&names.database, bounds::DATABASE)?,
            candidates,
            state: Some(self.version.clone()),
        };
        Ok(StateReading { what, reading, password_secret_arn })
    }

    /// A port is often a number.
    fn output(&self, name: &str, most: usize) -> Result<Option<String>, String> {
        let text = match self.outputs.get(name) {
            None | Some(Value::Null) => return Ok(None),
            Some(Value::Text(text) | Value::Number(text)) => text,
            Some(Value::Other) => return Err(format!("output {name}: expected text or a number")),
        };
        bounds::expect_at_most(most, text)
            .map_err(|problem| format!("output {name}: {problem}"))?;
        Ok((!text.is_empty()).then(|| text.clone()))
    }
}

/// The region in an ARN of a secret: `arn:PARTITION:secretsmanager:REGION:ACCOUNT:secret:NAME`.
/// Nothing but letters, digits and hyphens: it becomes part of a host name. The whole becomes part of
/// messages.
#[must_use]
pub fn secret_region(arn: &str) -> Option<&str> {
    let mut parts = arn.splitn(7, ':');
    let (scheme, _partition, service) = (parts.next()?, parts.next()?, parts.next()?);
    let (region, _account, kind) = (parts.next()?, parts.next()?, parts.next()?);
    let name = parts.next()?;
    let is_secret =
        scheme == "arn" && service == "secretsmanager" && kind == "secret" && !name.is_empty();
    let is_word = arn.bytes().all(|byte| byte.is_ascii_graphic());
    let is_region = (1..=32).contains(&region.len())
        && region.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-'));
    (is_secret && is_word && is_region).then_some(region)
}

#[cfg(test)]
mod tests;
