//! A TCP proxy that stands between service and database and can make trouble.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream, tcp::OwnedReadHalf, tcp::OwnedWriteHalf},
    sync::watch,
    task::JoinHandle,
    time::sleep,
};

/// What happens to the bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Behaviour {
    /// They pass.
    Pass,
    /// They pass late.
    Delay(Duration),
    /// They vanish, as behind a broken router; connections stay open.
    Swallow,
    /// Connections are reset, and so are new ones.
    Reset,
}

/// A proxy that ends with this value.
pub(crate) struct Proxy {
    pub(crate) address: SocketAddr,
    behaviour: Arc<watch::Sender<Behaviour>>,
    listener: JoinHandle<()>,
}

impl Proxy {
    /// In front of a server.
    pub(crate) async fn start(host: &str, port: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("bound");
        let behaviour = Arc::new(watch::channel(Behaviour::Pass).0);
        let (target, subscribe) = ((host.to_owned(), port), Arc::clone(&behaviour));
        let accept = async move {
            loop {
                let (client, _) = listener.accept().await.expect("a connection");
                let server = TcpStream::connect(target.clone()).await.expect("the server is up");
                tokio::spawn(relay(client, server, subscribe.subscribe()));
            }
        };
        Self { address, behaviour, listener: tokio::spawn(accept) }
    }

    /// From now on, for open connections as well.
    pub(crate) fn set(&self, behaviour: Behaviour) {
        self.behaviour.send_replace(behaviour);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.listener.abort();
    }
}

async fn relay(client: TcpStream, server: TcpStream, mut behaviour: watch::Receiver<Behaviour>) {
    // With no time to linger a close is a reset.
    for stream in [&client, &server] {
        stream.set_zero_linger().expect("a socket option");
    }
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    let up = copy(from_client, to_server, behaviour.clone());
    let down = copy(from_server, to_client, behaviour.clone());
    tokio::select! {
        () = async { tokio::join!(up, down); } => {}
        _ = behaviour.wait_for(|now| *now == Behaviour::Reset) => {}
    }
}

async fn copy(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    behaviour: watch::Receiver<Behaviour>,
) {
    let mut buffer = vec![0; 16 * 1024];
    while let Ok(length @ 1..) = from.read(&mut buffer).await {
        let now = *behaviour.borrow();
        match now {
            Behaviour::Pass => {}
            Behaviour::Delay(time) => sleep(time).await,
            Behaviour::Swallow => continue,
            Behaviour::Reset => return,
        }
        if to.write_all(&buffer[..length]).await.is_err() {
            return;
        }
    }
}
