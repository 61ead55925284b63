//! A proxy that stops one login on its way, where a slow network does the most harm.

use std::{
    io,
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, copy, copy_bidirectional},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::watch,
    task::JoinHandle,
    time::timeout,
};

/// How long a login may take to get to where it is held.
const DEADLINE: Duration = Duration::from_secs(20);

/// The type of a TLS record whose content is encrypted.
const APPLICATION_DATA: u8 = 23;

/// Where a login is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum At {
    /// The client has sent the password, and the server does not receive it.
    Password,
    /// The server has received the password, and the client does not receive the answer.
    Answer,
}

/// A proxy that ends with this value. It passes everything on but the login that it is told to hold.
pub(crate) struct HoldingProxy {
    pub(crate) port: u16,
    next: Arc<Mutex<Option<Hold>>>,
    listener: JoinHandle<()>,
}

#[derive(Clone)]
struct Hold {
    at: At,
    progress: Arc<watch::Sender<Progress>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Progress {
    Coming,
    Held,
    Released,
    Cut,
}

impl HoldingProxy {
    /// In front of a server, on a port of `localhost`.
    pub(crate) async fn start(host: &str, port: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let own_port = listener.local_addr().expect("bound").port();
        let next = Arc::<Mutex<Option<Hold>>>::default();
        let (target, for_next) = ((host.to_owned(), port), Arc::clone(&next));
        let accept = async move {
            loop {
                let (client, _) = listener.accept().await.expect("a connection");
                let server = TcpStream::connect(target.clone()).await.expect("the server is up");
                let hold = for_next.lock().expect("no panic").take();
                // How a connection ends is seen at its ends.
                tokio::spawn(async move { drop(relay(client, server, hold).await) });
            }
        };
        Self { port: own_port, next, listener: tokio::spawn(accept) }
    }

    /// Holds the next connection when its login gets there.
    pub(crate) fn hold_next(&self, at: At) -> HeldLogin {
        let hold = Hold { at, progress: Arc::new(watch::channel(Progress::Coming).0) };
        *self.next.lock().expect("no panic") = Some(hold.clone());
        HeldLogin { progress: hold.progress }
    }
}

impl Drop for HoldingProxy {
    fn drop(&mut self) {
        self.listener.abort();
    }
}

/// The login that is held.
pub(crate) struct HeldLogin {
    progress: Arc<watch::Sender<Progress>>,
}

impl HeldLogin {
    /// Waits until the client has sent its password.
    pub(crate) async fn is_held(&self) {
        let mut progress = self.progress.subscribe();
        let held = progress.wait_for(|now| *now == Progress::Held);
        let held = timeout(DEADLINE, held).await.expect("a login should have sent its password");
        held.expect("its sender is here");
    }

    /// Lets it go on, and everything after it on the same connection.
    pub(crate) fn release(self) {
        self.progress.send_replace(Progress::Released);
    }

    /// Closes its connection.
    pub(crate) fn cut(self) {
        self.progress.send_replace(Progress::Cut);
    }
}

async fn relay(mut client: TcpStream, mut server: TcpStream, hold: Option<Hold>) -> io::Result<()> {
    let Some(hold) = hold else {
        copy_bidirectional(&mut client, &mut server).await?;
        return Ok(());
    };
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    tokio::select! {
        end = pass_login(from_client, to_server, &hold) => end,
        end = pass_answers(from_server, to_client, &hold) => end,
    }
}

async fn pass_login(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    hold: &Hold,
) -> io::Result<()> {
    let password = pass_until_password(&mut from, &mut to).await?;
    hold.progress.send_replace(Progress::Held);
    if hold.at == At::Password {
        hold.wait_for_release().await?;
    }
    to.write_all(&password).await?;
    copy(&mut from, &mut to).await?;
    Ok(())
}

async fn pass_answers(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    hold: &Hold,
) -> io::Result<()> {
    let mut buffer = vec![0; 16 * 1024];
    while let length @ 1.. = from.read(&mut buffer).await? {
        if *hold.progress.borrow() == Progress::Held {
            hold.wait_for_release().await?;
        }
        to.write_all(&buffer[..length]).await?;
    }
    Ok(())
}

impl Hold {
    async fn wait_for_release(&self) -> io::Result<()> {
        let mut progress = self.progress.subscribe();
        let end = progress.wait_for(|now| matches!(now, Progress::Released | Progress::Cut)).await;
        match *end.expect("its sender is here") {
            Progress::Cut => Err(io::ErrorKind::ConnectionReset.into()),
            _ => Ok(()),
        }
    }
}

/// Passes on what comes before the password: the request for TLS, and the handshake of TLS 1.3, which ends
/// with the first encrypted record. The second one carries the password and is returned.
async fn pass_until_password(
    from: &mut OwnedReadHalf,
    to: &mut OwnedWriteHalf,
) -> io::Result<Vec<u8>> {
    let request = read_frame(from, |[low, middle, high, _number]| {
        u32::from_le_bytes([*low, *middle, *high, 0]) as usize
    });
    to.write_all(&request.await?).await?;
    let mut is_finished = false;
    loop {
        let record = read_frame(from, |[_type, _major, _minor, high, low]| {
            u16::from_be_bytes([*high, *low]).into()
        });
        let record = record.await?;
        let is_encrypted = record[0] == APPLICATION_DATA;
        if is_encrypted && is_finished {
            return Ok(record);
        }
        is_finished |= is_encrypted;
        to.write_all(&record).await?;
    }
}

/// A header of `N` bytes, and as many bytes as it says.
async fn read_frame<const N: usize>(
    from: &mut OwnedReadHalf,
    length: impl Fn(&[u8; N]) -> usize,
) -> io::Result<Vec<u8>> {
    let mut header = [0; N];
    from.read_exact(&mut header).await?;
    let mut frame = header.to_vec();
    frame.resize(N + length(&header), 0);
    from.read_exact(&mut frame[N..]).await?;
    Ok(frame)
}
