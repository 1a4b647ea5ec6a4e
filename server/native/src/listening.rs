//! Where connections come from: a TCP port or a Unix socket. What is said on them is not known here.

use std::io;
use std::net::{TcpListener as StdTcpListener, ToSocketAddrs};
use std::os::unix::net::UnixListener as StdUnixListener;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use socket2::{Domain, SockAddr, Socket, Type};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};

const BACKLOG: i32 = 1024;
/// What the addresses of Unix sockets, and of their callers, begin with.
pub const UNIX: &str = "unix:";

/// A socket that listens; callers wait until `into_listener` is asked.
pub enum Bound {
    Tcp(StdTcpListener),
    Unix(StdUnixListener),
}

/// Listen on `HOST:PORT` or `unix:PATH`; with `shared`, other processes may listen on the same port.
pub fn listen(address: &str, shared: bool) -> io::Result<Bound> {
    if let Some(path) = address.strip_prefix(UNIX) {
        let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
        return Ok(Bound::Unix(listening(socket, &SockAddr::unix(path)?)?.into()));
    }
    let address = address.to_socket_addrs()?.next().ok_or_else(|| io::Error::other("no such address"))?;
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(shared)?;
    Ok(Bound::Tcp(listening(socket, &address.into())?.into()))
}

fn listening(socket: Socket, address: &SockAddr) -> io::Result<Socket> {
    socket.set_nonblocking(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)?;
    Ok(socket)
}

impl Bound {
    /// The port really bound; a Unix socket has none.
    pub fn port(&self) -> io::Result<Option<u16>> {
        match self {
            Bound::Tcp(listener) => Ok(Some(listener.local_addr()?.port())),
            Bound::Unix(_) => Ok(None),
        }
    }

    /// To be called in the runtime that accepts.
    pub fn into_listener(self) -> io::Result<Listener> {
        Ok(match self {
            Bound::Tcp(listener) => Listener::Tcp(TcpListener::from_std(listener)?),
            Bound::Unix(listener) => Listener::Unix(UnixListener::from_std(listener)?),
        })
    }
}

pub enum Listener {
    Tcp(TcpListener),
    Unix(UnixListener),
}

impl Listener {
    /// The next connection, and whose it is as gRPC writes it: `ipv4:127.0.0.1:51234`. Callers of a Unix socket, whose own sockets seldom
    /// have a path, are one: `unix:`.
    pub async fn accept(&self) -> io::Result<(Connection, Arc<str>)> {
        match self {
            Listener::Tcp(listener) => {
                let (socket, address) = listener.accept().await?;
                // What is sent is whole answers: waiting to send more at once would only delay them.
                let _ = socket.set_nodelay(true);
                let address = if address.is_ipv4() { format!("ipv4:{address}") } else { format!("ipv6:{address}") };
                Ok((Connection::Tcp(socket), address.into()))
            }
            Listener::Unix(listener) => {
                let (socket, address) = listener.accept().await?;
                let address = address.as_pathname().map_or(UNIX.into(), |path| format!("{UNIX}{}", path.display()));
                Ok((Connection::Unix(socket), address.into()))
            }
        }
    }
}

/// The bytes of one caller.
pub enum Connection {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl AsyncRead for Connection {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Connection::Tcp(socket) => Pin::new(socket).poll_read(context, buffer),
            Connection::Unix(socket) => Pin::new(socket).poll_read(context, buffer),
        }
    }
}

impl AsyncWrite for Connection {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Connection::Tcp(socket) => Pin::new(socket).poll_write(context, data),
            Connection::Unix(socket) => Pin::new(socket).poll_write(context, data),
        }
    }

    fn poll_write_vectored(self: Pin<&mut Self>, context: &mut Context<'_>, parts: &[io::IoSlice<'_>]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Connection::Tcp(socket) => Pin::new(socket).poll_write_vectored(context, parts),
            Connection::Unix(socket) => Pin::new(socket).poll_write_vectored(context, parts),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Connection::Tcp(socket) => socket.is_write_vectored(),
            Connection::Unix(socket) => socket.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Connection::Tcp(socket) => Pin::new(socket).poll_flush(context),
            Connection::Unix(socket) => Pin::new(socket).poll_flush(context),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Connection::Tcp(socket) => Pin::new(socket).poll_shutdown(context),
            Connection::Unix(socket) => Pin::new(socket).poll_shutdown(context),
        }
    }
}
