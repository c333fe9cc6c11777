//! What the bytes of a connection go through: nothing, or TLS.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};

#[cfg(feature = "https")]
use std::sync::Arc;

/// How the connections of a server are to be treated.
#[derive(Clone)]
pub(super) enum Wires {
    Plain,
    #[cfg(feature = "https")]
    Tls(Arc<rustls::ServerConfig>),
}

/// One connection.
pub(super) enum Wire {
    Plain(TcpStream),
    #[cfg(feature = "https")]
    Tls(Box<rustls::StreamOwned<rustls::ServerConnection, TcpStream>>),
}

impl Wires {
    pub(super) fn scheme(&self) -> &'static str {
        match self {
            Wires::Plain => "http",
            #[cfg(feature = "https")]
            Wires::Tls(_) => "https",
        }
    }

    /// The handshake comes with the first read.
    #[cfg_attr(
        not(feature = "https"),
        expect(clippy::unnecessary_wraps, reason = "TLS can fail")
    )]
    pub(super) fn wrap(&self, stream: TcpStream) -> io::Result<Wire> {
        match self {
            Wires::Plain => Ok(Wire::Plain(stream)),
            #[cfg(feature = "https")]
            Wires::Tls(config) => {
                let session = rustls::ServerConnection::new(Arc::clone(config));
                let session = session.map_err(io::Error::other)?;
                let stream = rustls::StreamOwned::new(session, stream);
                Ok(Wire::Tls(Box::new(stream)))
            }
        }
    }
}

impl Wire {
    /// Says that this was all, unless it is to look broken off, and lets the
    /// client read all of it before the socket is gone. Without TLS the end looks
    /// the same either way.
    #[cfg_attr(
        not(feature = "https"),
        expect(unused_variables, reason = "only TLS says how it ends")
    )]
    pub(super) fn finish(&mut self, broken_off: bool) -> io::Result<()> {
        match self {
            Wire::Plain(stream) => drain(stream),
            #[cfg(feature = "https")]
            Wire::Tls(stream) => {
                if !broken_off {
                    stream.conn.send_close_notify();
                }
                while stream.conn.wants_write() {
                    stream.conn.write_tls(&mut stream.sock)?;
                }
                drain(&mut stream.sock)
            }
        }
    }
}

fn drain(stream: &mut TcpStream) -> io::Result<()> {
    stream.shutdown(Shutdown::Write)?;
    io::copy(stream, &mut io::sink())?;
    Ok(())
}

impl Read for Wire {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Wire::Plain(stream) => stream.read(buffer),
            #[cfg(feature = "https")]
            Wire::Tls(stream) => stream.read(buffer),
        }
    }
}

impl Write for Wire {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Wire::Plain(stream) => stream.write(bytes),
            #[cfg(feature = "https")]
            Wire::Tls(stream) => stream.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Wire::Plain(stream) => stream.flush(),
            #[cfg(feature = "https")]
            Wire::Tls(stream) => stream.flush(),
        }
    }
}
