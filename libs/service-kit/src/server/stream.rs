//! A socket that notes what happens on it, and that gives hyper's own refusals a body.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use axum::body::Bytes;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};
use tracing::debug;

use super::{connection::Connection, refusal};

/// The socket of one connection.
#[derive(Debug)]
pub(super) struct TrackedStream {
    socket: TcpStream,
    connection: Arc<Connection>,
    /// The client has said that it sends nothing more.
    has_ended: bool,
    refusing: Option<Refusing>,
    has_refused: bool,
}

/// An answer of hyper's that is being replaced.
#[derive(Debug)]
struct Refusing {
    /// What is left of ours.
    ours: Bytes,
    /// The length of hyper's.
    theirs: usize,
}

impl TrackedStream {
    /// Notes what happens on `socket` in `connection`.
    pub(super) fn new(socket: TcpStream, connection: Arc<Connection>) -> Self {
        Self { socket, connection, has_ended: false, refusing: None, has_refused: false }
    }

    /// Whether a request was refused that could not be read to its end.
    pub(super) fn has_refused(&self) -> bool {
        self.has_refused
    }

    /// Whether the client sends nothing more.
    pub(super) fn has_ended(&self) -> bool {
        self.has_ended
    }

    /// Sends what the system takes at once.
    pub(super) fn try_write(&mut self, bytes: &[u8]) {
        if let Err(error) = self.socket.try_write(bytes) {
            debug!(%error, "a client is not told why its connection ends");
        }
    }

    fn note(&self, written: &Poll<io::Result<usize>>) {
        match written {
            Poll::Ready(Ok(bytes)) => self.connection.note_written(*bytes),
            Poll::Ready(Err(_)) => {}
            Poll::Pending => self.connection.note_blocked(),
        }
    }

    fn write_refusal(&mut self, context: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let Some(refusing) = &mut self.refusing else { return Poll::Ready(Ok(0)) };
        while !refusing.ours.is_empty() {
            let written = ready!(Pin::new(&mut self.socket).poll_write(context, &refusing.ours))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            drop(refusing.ours.split_to(written));
        }
        let theirs = refusing.theirs;
        self.refusing = None;
        Poll::Ready(Ok(theirs))
    }
}

impl AsyncRead for TrackedStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.socket).poll_read(context, buffer);
        self.connection.note_body(read.is_pending());
        ready!(read)?;
        if buffer.filled().len() == before {
            self.has_ended = true;
        } else {
            self.connection.note_read();
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for TrackedStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &[u8],
    ) -> Poll<io::Result<usize>> {
        if self.refusing.is_some() {
            return self.write_refusal(context);
        }
        let written = match refusal::find(buffer) {
            Some((0, status)) => {
                self.has_refused = true;
                let ours = refusal::unreadable(status);
                self.refusing = Some(Refusing { ours, theirs: buffer.len() });
                return self.write_refusal(context);
            }
            // First what belongs to answers before it.
            Some((start, _)) => Pin::new(&mut self.socket).poll_write(context, &buffer[..start]),
            None => Pin::new(&mut self.socket).poll_write(context, buffer),
        };
        self.note(&written);
        written
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffers: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let last = buffers.iter().rfind(|buffer| !buffer.is_empty());
        let is_refused = last.is_some_and(|last| refusal::find(last).is_some());
        if is_refused || self.refusing.is_some() {
            let first = buffers.iter().find(|buffer| !buffer.is_empty());
            return self.poll_write(context, first.map_or(&[][..], |first| first));
        }
        let written = Pin::new(&mut self.socket).poll_write_vectored(context, buffers);
        self.note(&written);
        written
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(Pin::new(&mut self.socket).poll_flush(context))?;
        self.connection.note_flushed();
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(context)
    }
}
