//! Where bytes go and come from: a TCP connection of this machine or another, with or without TLS. Never waits once it is connected.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::{CertificateDer, ServerName, pem::PemObject};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

use crate::Fault;

const CONNECT: Duration = Duration::from_secs(5);

pub enum Socket {
    Plain(TcpStream),
    Tls(Box<StreamOwned<ClientConnection, TcpStream>>),
}

/// Trust in the authorities of a file of PEM, for HTTP/2.
pub fn trusting(authorities: &str) -> Result<Arc<ClientConfig>, Fault> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(authorities)? {
        roots.add(certificate?)?;
    }
    let mut config = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(Arc::new(config))
}

impl Socket {
    /// Connected, and with TLS if there is a configuration of it.
    pub fn connect(address: &str, tls: Option<&Arc<ClientConfig>>) -> Result<Self, Fault> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(CONNECT))?;
        let Some(config) = tls else { return Ok(Self::Plain(stream)) };
        let host = address.rsplit_once(':').map_or(address, |(host, _)| host).trim_matches(['[', ']']);
        let connection = ClientConnection::new(Arc::clone(config), ServerName::try_from(host.to_owned())?)?;
        let mut stream = StreamOwned::new(connection, stream);
        while stream.conn.is_handshaking() {
            stream.conn.complete_io(&mut stream.sock)?;
        }
        Ok(Self::Tls(Box::new(stream)))
    }

    /// From now on reading and writing fail where they would wait.
    pub fn stop_waiting(&self) -> io::Result<()> {
        match self {
            Self::Plain(stream) => stream.set_nonblocking(true),
            Self::Tls(stream) => stream.sock.set_nonblocking(true),
        }
    }

    /// Hand over what is taken, and remove it; whether nothing is left.
    pub fn flush(&mut self, out: &mut Vec<u8>) -> io::Result<bool> {
        let mut written = 0;
        let result = self.write_on(out, &mut written);
        out.drain(..written);
        match result {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn write_on(&mut self, out: &[u8], written: &mut usize) -> io::Result<()> {
        while *written < out.len() {
            *written += match self {
                Self::Plain(stream) => stream.write(&out[*written..])?,
                Self::Tls(stream) => stream.write(&out[*written..])?,
            };
        }
        match self {
            Self::Plain(_) => Ok(()),
            Self::Tls(stream) => stream.flush(),
        }
    }

    /// What has come, 0 at the end.
    pub fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(stream) => stream.read(into),
            Self::Tls(stream) => stream.read(into),
        }
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Plain(stream) => stream.as_fd(),
            Self::Tls(stream) => stream.sock.as_fd(),
        }
    }
}
