//! A port in front of a server, on which one login is held where a slow network does the most harm:
//! between the password and the answer.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, copy, copy_bidirectional},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::watch,
    task::{JoinHandle, JoinSet},
    time::timeout,
};

/// The type of a TLS record whose content is encrypted.
const APPLICATION_DATA: u8 = 23;

/// Where a login is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum At {
    /// The client has sent the password, and the server does not receive it: to the server it is a
    /// session of nobody.
    Password,
    /// The server has let the client in, and the client does not receive the answer: to the server it is a
    /// session of the account.
    Answer,
}

/// Passes connections on until it is dropped, but the login that it is told to hold.
#[derive(Debug)]
pub struct HoldingProxy {
    address: SocketAddr,
    next: Arc<Mutex<Option<Hold>>>,
    task: JoinHandle<()>,
}

#[derive(Clone, Debug)]
struct Hold {
    at: At,
    /// Clients whose logins are not held.
    except: Vec<IpAddr>,
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
    /// Listens on a free port of `host` in front of `server`.
    ///
    /// # Errors
    ///
    /// If there is no such port.
    pub async fn start(host: IpAddr, server: &str) -> io::Result<Self> {
        let listener = TcpListener::bind((host, 0)).await?;
        let address = listener.local_addr()?;
        let next = Arc::<Mutex<Option<Hold>>>::default();
        let task = tokio::spawn(accept(listener, server.to_owned(), Arc::clone(&next)));
        Ok(Self { address, next, task })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Holds the login of the next connection, unless it is of one of the clients `except`.
    #[must_use]
    pub fn hold_next(&self, at: At, except: Vec<IpAddr>) -> HeldLogin {
        let hold = Hold { at, except, progress: Arc::new(watch::channel(Progress::Coming).0) };
        *self.next.lock().unwrap_or_else(PoisonError::into_inner) = Some(hold.clone());
        HeldLogin { progress: hold.progress }
    }
}

impl Drop for HoldingProxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// The login that is held.
#[derive(Debug)]
pub struct HeldLogin {
    progress: Arc<watch::Sender<Progress>>,
}

impl HeldLogin {
    /// Waits until the client has sent its password.
    ///
    /// # Errors
    ///
    /// If it has not before `deadline`.
    pub async fn is_held(&self, deadline: Duration) -> io::Result<()> {
        let mut progress = self.progress.subscribe();
        let held = timeout(deadline, progress.wait_for(|now| *now == Progress::Held)).await;
        let held = held.map_err(|_| {
            io::Error::new(io::ErrorKind::TimedOut, "no login has sent its password")
        })?;
        held.map(drop).map_err(io::Error::other)
    }

    /// Lets it go on, and everything after it on the same connection.
    pub fn release(self) {
        self.progress.send_replace(Progress::Released);
    }

    /// Closes its connection.
    pub fn cut(self) {
        self.progress.send_replace(Progress::Cut);
    }
}

async fn accept(listener: TcpListener, server: String, next: Arc<Mutex<Option<Hold>>>) {
    let mut connections = JoinSet::new();
    loop {
        // An error is the client's: it went before it was let in.
        let Ok((client, peer)) = listener.accept().await else { continue };
        let hold = {
            let mut next = next.lock().unwrap_or_else(PoisonError::into_inner);
            next.take_if(|hold| !hold.except.contains(&peer.ip()))
        };
        let server = server.clone();
        // How a connection ends is seen at its ends.
        connections.spawn(async move { drop(relay(client, &server, hold).await) });
        while connections.try_join_next().is_some() {}
    }
}

async fn relay(mut client: TcpStream, server: &str, hold: Option<Hold>) -> io::Result<()> {
    let mut server = TcpStream::connect(server).await?;
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
        match *end.map_err(io::Error::other)? {
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
