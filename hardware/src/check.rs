//! `hardware check`: what works with a configuration, in words.

use std::{
    io::{self, Write},
    path::Path,
};

use crate::{
    catalog,
    config::{OpenStore, ServeArgs},
    store::{Db, StoreConfig, Tls},
    watches::WatchFile,
};

/// Writes one line per part to `out`, and returns whether everything works. Changes nothing.
pub async fn run(args: &ServeArgs, out: &mut impl Write) -> io::Result<bool> {
    let mut report = Report { out, is_good: true };
    let store = args.store.open().await;
    report.line("configuration", store.as_ref().map(|_| "complete".to_owned()))?;
    let catalog = catalog::open(args.catalog_file.as_deref()).await;
    let rows = catalog.as_ref().map(|rows| format!("{} rows", rows.latest().borrow().len()));
    report.line("catalog", rows)?;
    let token = args.open_token().await;
    let source_tokens = args.open_source_tokens().await;
    let has_source_tokens = matches!(source_tokens, Ok(Some(_)));
    let token = token.as_ref().map(|token| match token {
        Some(_) => "POST /v1/observations takes a token".to_owned(),
        None if has_source_tokens => {
            "none, POST /v1/observations takes those of single sources only".to_owned()
        }
        None => "none, POST /v1/observations is closed".to_owned(),
    });
    report.line("token", token)?;
    let source_tokens = source_tokens.map(|tokens| match tokens {
        Some(tokens) => {
            format!("{} sources have a token of their own", tokens.latest().borrow().len())
        }
        None => "no source has a token of its own".to_owned(),
    });
    report.line("source tokens", source_tokens)?;
    if let Some(file) = args.watches_file() {
        report.line("watches", check_watches(file).await)?;
    }
    if args.mcp {
        report.line("mcp", args.open_mcp().map(|_| "agents may ask at /mcp".to_owned()))?;
    }
    if let Ok(store) = store {
        check_store(&store, &mut report).await?;
    }
    Ok(report.is_good)
}

async fn check_watches(path: &Path) -> Result<String, String> {
    let content = match tokio::fs::read(path).await {
        Ok(content) => content,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Ok(format!("{} does not exist yet, none until it does", path.display()));
        }
        Err(error) => return Err(format!("failed to read {}: {error}", path.display())),
    };
    let file = WatchFile::parse(&content)?;
    match file.refused.first() {
        Some(refused) => Err(format!("{} of them are wrong: {refused}", file.refused.len())),
        None => Ok(format!("{} watches", file.watches.len())),
    }
}

async fn check_store<W: Write>(store: &OpenStore, report: &mut Report<'_, W>) -> io::Result<()> {
    let encryption = match &store.config {
        StoreConfig::Sqlite { path } if !path.exists() => {
            let text = format!("{} does not exist yet, serve creates it", path.display());
            return report.line::<&str>("database", Ok(text));
        }
        StoreConfig::Sqlite { .. } => "a file, no network",
        StoreConfig::Mysql { tls: Tls::Disabled, .. } => "DISABLED: for your own machine only",
        StoreConfig::Mysql { .. } => "required, with the given authorities only",
    };
    report.line::<&str>("encryption", Ok(encryption.to_owned()))?;
    let db = match Db::new(&store.config) {
        Ok(db) => db,
        Err(error) => return report.line("database", Err(error)),
    };
    let login = db.ping().await;
    let is_connected = login.is_ok();
    let login = login.map(|()| match db.session_report().and_then(|report| report.candidate) {
        Some(candidate) => format!("connected, as account {} of the list", candidate + 1),
        None => "opened".to_owned(),
    });
    report.line("database", login)?;
    if is_connected {
        let pending = db.pending_migrations().await.map_err(|error| error.to_string());
        let pending = pending.and_then(|pending| match pending.as_slice() {
            [] => Ok("up to date".to_owned()),
            _ => Err(format!("{} pending: run \"hardware migrate\"", pending.join(", "))),
        });
        report.line("migrations", pending)?;
    }
    Ok(())
}

struct Report<'a, W> {
    out: &'a mut W,
    is_good: bool,
}

impl<W: Write> Report<'_, W> {
    fn line<E: std::fmt::Display>(
        &mut self,
        part: &str,
        outcome: Result<String, E>,
    ) -> io::Result<()> {
        match outcome {
            Ok(text) => writeln!(self.out, "ok    {part}: {text}"),
            Err(error) => {
                self.is_good = false;
                writeln!(self.out, "FAIL  {part}: {error}")
            }
        }
    }
}
