//! The certificate that new connections are shown, and what they must show. Which files that comes from, Python says.

use std::sync::{Arc, PoisonError, RwLock};

use rustls::RootCertStore;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ServerConfig, WebPkiClientVerifier};
use tokio_rustls::TlsAcceptor;

const HTTP_2: &[u8] = b"h2";

/// What the next handshake goes by; nothing: plain text.
#[derive(Default)]
pub struct Tls {
    config: RwLock<Option<Arc<ServerConfig>>>,
}

impl Tls {
    /// Show this chain from now on, and ask for a certificate of one of these authorities, if there are any. All are PEM.
    pub fn renew(&self, chain: &[u8], key: &[u8], client_ca: Option<&[u8]>) -> Result<(), String> {
        let config = config(chain, key, client_ca).map_err(|error| error.to_string())?;
        *self.config.write().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(config));
        Ok(())
    }

    pub fn acceptor(&self) -> Option<TlsAcceptor> {
        self.config.read().unwrap_or_else(PoisonError::into_inner).clone().map(TlsAcceptor::from)
    }
}

fn config(chain: &[u8], key: &[u8], client_ca: Option<&[u8]>) -> Result<ServerConfig, Box<dyn std::error::Error>> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_slice_iter(chain).collect::<Result<_, _>>()?;
    let key = PrivateKeyDer::from_pem_slice(key)?;
    let builder = ServerConfig::builder_with_provider(provider.clone()).with_safe_default_protocol_versions()?;
    let builder = match client_ca {
        None => builder.with_no_client_auth(),
        Some(authorities) => {
            let mut roots = RootCertStore::empty();
            for authority in CertificateDer::pem_slice_iter(authorities) {
                roots.add(authority?)?;
            }
            builder.with_client_cert_verifier(WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build()?)
        }
    };
    let mut config = builder.with_single_cert(chain, key)?;
    config.alpn_protocols = vec![HTTP_2.to_vec()];
    Ok(config)
}
