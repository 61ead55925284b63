//! A port in front of a server, on which connections go wrong.

use std::{
    net::{IpAddr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use anyhow::{Context, Result};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, copy},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    task::{JoinHandle, JoinSet},
};

use crate::fault::{Fault, Faults};

/// Passes connections on until it is dropped, with what was encrypted still encrypted.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    accepted: Arc<AtomicUsize>,
    task: JoinHandle<()>,
}

impl Proxy {
    /// Listens on a free port of `host` in front of `server`. What this host itself sends is counted
    /// by `faults`, chunk by chunk as it arrives; what pods send is passed on as it is.
    pub async fn start(host: IpAddr, server: &str, faults: &Faults) -> Result<Self> {
        Self::start_at(SocketAddr::new(host, 0), server, faults).await
    }

    /// The same at an address, as a server that comes back.
    pub async fn start_at(address: SocketAddr, server: &str, faults: &Faults) -> Result<Self> {
        let listener = TcpListener::bind(address).await?;
        let address = listener.local_addr()?;
        let accepted = Arc::<AtomicUsize>::default();
        let accept = accept(listener, server.to_owned(), faults.clone(), Arc::clone(&accepted));
        Ok(Self { address, accepted, task: tokio::spawn(accept) })
    }

    /// Connections that were accepted since the start.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.accepted.load(Ordering::SeqCst)
    }

    /// Ends it with its connections, as the end of a server does, and gives its address.
    pub async fn stop(mut self) -> SocketAddr {
        self.task.abort();
        // It is cancelled, and has closed its sockets then.
        drop((&mut self.task).await);
        self.address
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn accept(listener: TcpListener, server: String, faults: Faults, accepted: Arc<AtomicUsize>) {
    let mut connections = JoinSet::new();
    // An error is the client's: it went before it was let in.
    loop {
        let Ok((client, peer)) = listener.accept().await else { continue };
        accepted.fetch_add(1, Ordering::SeqCst);
        let is_of_host = client.local_addr().is_ok_and(|own| own.ip() == peer.ip());
        let (server, faults) = (server.clone(), faults.clone());
        connections.spawn(async move {
            // How it ends is seen by whoever is at its ends.
            drop(pass_on(client, &server, is_of_host.then_some(&faults)).await);
        });
        while connections.try_join_next().is_some() {}
    }
}

async fn pass_on(client: TcpStream, server: &str, faults: Option<&Faults>) -> Result<()> {
    let server = TcpStream::connect(server).await.context("the server does not answer")?;
    let (mut from_client, to_client) = client.into_split();
    let (from_server, mut to_server) = server.into_split();
    let mut back = std::pin::pin!(forward_to_client(from_server, to_client));
    let end = tokio::select! {
        end = forward_to_server(&mut from_client, &mut to_server, faults) => end?,
        done = &mut back => return done,
    };
    match end {
        End::ClientClosed => back.await,
        End::Cut => Ok(()),
        // Nothing comes back any more. The server learns of it when the client gives up, or is gone.
        End::Stalled => {
            copy(&mut from_client, &mut tokio::io::sink()).await?;
            Ok(())
        }
    }
}

/// How the direction to the server ended.
enum End {
    /// The client has sent all.
    ClientClosed,
    /// Both sides are cut off at once.
    Cut,
    /// The connection is there, and nothing passes.
    Stalled,
}

async fn forward_to_server(
    from_client: &mut OwnedReadHalf,
    to_server: &mut OwnedWriteHalf,
    faults: Option<&Faults>,
) -> Result<End> {
    let mut chunk = vec![0; 64 * 1024];
    loop {
        let length = from_client.read(&mut chunk).await?;
        if length == 0 {
            to_server.shutdown().await?;
            return Ok(End::ClientClosed);
        }
        let fault = faults.and_then(|faults| faults.next(true).map(|fault| (fault, faults)));
        match fault {
            Some((Fault::Hang, _)) => return Ok(End::Stalled),
            Some((Fault::CrashBefore, faults)) => {
                faults.crash();
                return Ok(End::Stalled);
            }
            _ => to_server.write_all(&chunk[..length]).await?,
        }
        match fault {
            None => {}
            Some((Fault::CrashAfter, faults)) => {
                faults.crash();
                return Ok(End::Stalled);
            }
            Some(_) => return Ok(End::Cut),
        }
    }
}

async fn forward_to_client(
    mut from_server: OwnedReadHalf,
    mut to_client: OwnedWriteHalf,
) -> Result<()> {
    copy(&mut from_server, &mut to_client).await?;
    to_client.shutdown().await?;
    Ok(())
}
