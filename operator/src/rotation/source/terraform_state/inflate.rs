//! A state is compressed, cut into pieces and put into Secrets. The pieces are inflated one after the
//! other, so that no more than one of them and the text so far are in memory.

use std::{
    io::{self, ErrorKind, Write},
    ops::ControlFlow,
};

use flate2::write::GzDecoder;

/// Most bytes of a state, compressed or not, so that nobody can fill the operator's memory with one.
pub(super) const MOST_BYTES: usize = 8 << 20;

/// Why pieces are no state.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// There are more than [`MOST_BYTES`].
    TooLarge,
    /// Something is missing, or does not belong to it.
    Incomplete(&'static str),
}

/// Inflates one state. One of new and old pieces does not pass the checksum at its end.
pub(super) struct Inflater {
    decoder: GzDecoder<Bounded>,
    taken: usize,
}

impl Inflater {
    pub(super) fn new() -> Self {
        Self { decoder: GzDecoder::new(Bounded(Vec::new())), taken: 0 }
    }

    /// Takes the next piece, and breaks if the state has ended before it: a piece that follows the end
    /// is left over from a longer state.
    pub(super) fn take(&mut self, piece: &[u8]) -> Result<ControlFlow<()>, Fault> {
        self.taken += piece.len();
        if self.taken > MOST_BYTES {
            return Err(Fault::TooLarge);
        }
        let mut rest = piece;
        while !rest.is_empty() {
            match self.decoder.write(rest) {
                Ok(0) if rest.len() == piece.len() => return Ok(ControlFlow::Break(())),
                Ok(0) => return Err(Fault::Incomplete("something follows it inside of a Secret")),
                Ok(taken) => rest = &rest[taken..],
                Err(error) => return Err(of_io(&error)),
            }
        }
        Ok(ControlFlow::Continue(()))
    }

    /// The text, if it is complete and its checksum right.
    pub(super) fn finish(self) -> Result<Vec<u8>, Fault> {
        match self.decoder.finish() {
            Ok(Bounded(text)) => Ok(text),
            Err(error) => Err(of_io(&error)),
        }
    }
}

fn of_io(error: &io::Error) -> Fault {
    match error.kind() {
        ErrorKind::FileTooLarge => Fault::TooLarge,
        _ => Fault::Incomplete("what its Secrets hold together is no complete gzip file"),
    }
}

/// A text of at most [`MOST_BYTES`].
struct Bounded(Vec<u8>);

impl Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.0.len() + bytes.len() > MOST_BYTES {
            return Err(ErrorKind::FileTooLarge.into());
        }
        self.0.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
