//! Serving a room: TLS with a certificate made on the spot, this machine's addresses, and a QR code.
//!
//! Browsers offer WebGPU over https only (and on the same machine), so other machines need TLS; a machine in a local
//! network has no name that an authority could certify. `docs/serve.md` says what browsers make of that.

use crate::ServeError;
use axum::Router;
use axum::extract::Request;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use qrcode::render::unicode::Dense1x2;
use qrcode::{EcLevel, QrCode};
use rcgen::{CertificateParams, DnType, ExtendedKeyUsagePurpose, KeyPair, KeyUsagePurpose};
use sha2::{Digest, Sha256};
use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, UdpSocket};
use std::path::Path;
use std::sync::Arc;
use time::{Duration, OffsetDateTime};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::{ServerConfig, crypto::ring};
use tokio_rustls::server::TlsStream;

/// Days that a certificate made here is valid; its key is gone with the process.
const DAYS: i64 = 30;
/// First byte of a TLS connection: a record of a handshake (RFC 8446, 5.1).
const HANDSHAKE: u8 = 22;

/// A certificate and its key, ready for connections.
#[derive(Clone)]
pub struct Tls {
    acceptor: TlsAcceptor,
    fingerprint: String,
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls").field("fingerprint", &self.fingerprint).finish_non_exhaustive()
    }
}

impl Tls {
    /// A new key, in memory only, and a certificate that it signs itself, for these names or addresses and for
    /// `localhost`, valid for thirty days.
    ///
    /// # Errors
    ///
    /// Where a name is not one that a certificate can hold, or the system gives no random numbers.
    pub fn made_for(hosts: &[String]) -> Result<Self, ServeError> {
        let words = |error: rcgen::Error| ServeError::Certificate(error.to_string());
        let local = ["localhost".to_owned(), Ipv4Addr::LOCALHOST.to_string()];
        let names = hosts.iter().cloned().chain(local);
        let mut certificate = CertificateParams::new(names.collect::<Vec<_>>()).map_err(words)?;
        certificate.distinguished_name.push(DnType::CommonName, "Hearth, made on the spot");
        // visitors' clocks may be wrong by a day
        let now = OffsetDateTime::now_utc();
        certificate.not_before = now - Duration::days(1);
        certificate.not_after = now + Duration::days(DAYS);
        certificate.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        certificate.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let key = KeyPair::generate().map_err(words)?;
        let certificate = certificate.self_signed(&key).map_err(words)?;
        let key = PrivateKeyDer::Pkcs8(key.serialize_der().into());
        Self::of(vec![certificate.der().clone()], key)
    }

    /// The certificate and key of two PEM files, from an authority that the visitors' browsers know.
    ///
    /// # Errors
    ///
    /// Where a file cannot be read, is not PEM, or the two do not belong together.
    pub fn of_files(certificates: &Path, key: &Path) -> Result<Self, ServeError> {
        let pem = |file: &Path, expected, found: &dyn fmt::Display| ServeError::Pem {
            file: file.to_owned(),
            expected,
            found: found.to_string(),
        };
        let chain = CertificateDer::pem_file_iter(certificates)
            .and_then(Iterator::collect::<Result<Vec<_>, _>>)
            .map_err(|error| pem(certificates, "a certificate", &error))?;
        if chain.is_empty() {
            return Err(pem(certificates, "a certificate", &"there is none"));
        }
        let key =
            PrivateKeyDer::from_pem_file(key).map_err(|error| pem(key, "a private key", &error))?;
        Self::of(chain, key)
    }

    fn of(
        chain: Vec<CertificateDer<'static>>,
        key: PrivateKeyDer<'static>,
    ) -> Result<Self, ServeError> {
        let digest = chain.first().map(Sha256::digest).unwrap_or_default();
        let fingerprint =
            digest.iter().map(|byte| format!("{byte:02X}")).collect::<Vec<_>>().join(":");
        let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .and_then(|config| config.with_no_client_auth().with_single_cert(chain, key))
            .map_err(|error| ServeError::Certificate(error.to_string()))?;
        Ok(Self { acceptor: TlsAcceptor::from(Arc::new(config)), fingerprint })
    }

    /// SHA-256 of the certificate, as browsers show it: `AB:CD:…`.
    pub fn fingerprint(&self) -> &str {
        &self.fingerprint
    }

    pub(crate) async fn accept<S>(&self, stream: S) -> io::Result<TlsStream<S>>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        self.acceptor.accept(stream).await
    }
}

/// Whether a client begins with TLS.
pub(crate) async fn speaks_tls(stream: &TcpStream) -> bool {
    let mut first = [0];
    matches!(stream.peek(&mut first).await, Ok(1)) && first == [HANDSHAKE]
}

/// Sends whoever typed an address without `https://` to the same with it.
pub(crate) fn to_https() -> Router {
    Router::new().fallback(async |request: Request| -> Response {
        let host = request.headers().get(header::HOST).and_then(|host| host.to_str().ok());
        match host {
            Some(host) => {
                let address = format!("https://{host}{}", request.uri());
                (StatusCode::TEMPORARY_REDIRECT, [(header::LOCATION, address)]).into_response()
            }
            None => StatusCode::BAD_REQUEST.into_response(),
        }
    })
}

/// This machine's IPv4 addresses in networks, the one of the default route first.
///
/// # Errors
///
/// Where the system does not list them, or there is none.
pub fn addresses() -> Result<Vec<IpAddr>, ServeError> {
    let all = if_addrs::get_if_addrs().map_err(ServeError::Addresses)?;
    let mut found: Vec<IpAddr> = all
        .into_iter()
        .filter(|interface| !interface.is_loopback() && !interface.is_link_local())
        .map(|interface| interface.ip())
        .filter(IpAddr::is_ipv4)
        .collect();
    let first = default_route();
    found.sort_by_key(|address| (Some(*address) != first, *address));
    found.dedup();
    if found.is_empty() { Err(ServeError::NoNetwork) } else { Ok(found) }
}

/// The address from which packets to other networks would leave. None is sent.
fn default_route() -> Option<IpAddr> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).ok()?;
    // an address for documentation (RFC 5737)
    socket.connect((Ipv4Addr::new(192, 0, 2, 1), 9)).ok()?;
    Some(socket.local_addr().ok()?.ip())
}

/// A QR code for a terminal, two modules a character. With `colors` it is black on white whatever the terminal's
/// colors are; without, dark modules are characters.
///
/// # Errors
///
/// Where the text is too long for one.
pub fn qr_code(text: &str, colors: bool) -> Result<String, ServeError> {
    let code = QrCode::with_error_correction_level(text, EcLevel::L)
        .map_err(|error| ServeError::Certificate(format!("no QR code for '{text}': {error}")))?;
    let picture = code.render::<Dense1x2>().build();
    let line = |line: &str| match colors {
        true => format!("\x1b[30;107m{line}\x1b[0m\n"),
        false => format!("{line}\n"),
    };
    Ok(picture.lines().map(line).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_qr_code_has_every_module_and_a_margin() {
        let text = "https://192.168.178.20:8443/";
        let code = QrCode::with_error_correction_level(text, EcLevel::L).unwrap();
        let picture = qr_code(text, false).unwrap();
        let rows: Vec<Vec<char>> = picture.lines().map(|line| line.chars().collect()).collect();
        let (width, margin) = (code.width(), 4);
        let dark = |x: usize, y: usize| match rows[y / 2][x] {
            '█' => true,
            '▀' => y.is_multiple_of(2),
            '▄' => !y.is_multiple_of(2),
            ' ' => false,
            other => panic!("{other}"),
        };
        for y in 0..width + 2 * margin {
            for x in 0..width + 2 * margin {
                let inside = |at: usize| (margin..margin + width).contains(&at);
                let expected =
                    inside(x) && inside(y) && code[(x - margin, y - margin)] == qrcode::Color::Dark;
                assert_eq!(dark(x, y), expected, "{x} {y}");
            }
        }
        let colored = qr_code(text, true).unwrap();
        assert!(colored.lines().all(|line| line.starts_with("\x1b[30;107m")), "{colored}");
        assert!(qr_code(&"x".repeat(4000), false).is_err());
    }

    #[test]
    fn keys_and_certificates_that_do_not_belong_together_are_refused_by_name() {
        let folder = std::env::temp_dir().join(format!("hearth-pem-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let (certificate, key) = (folder.join("certificate.pem"), folder.join("key.pem"));
        let pem = |kind: &str, bytes: &[u8]| {
            use base64::{Engine, engine::general_purpose::STANDARD};
            format!("-----BEGIN {kind}-----\n{}\n-----END {kind}-----\n", STANDARD.encode(bytes))
        };
        let pair = || {
            let key = KeyPair::generate().unwrap();
            let made = CertificateParams::new(["localhost".to_owned()]).unwrap();
            (made.self_signed(&key).unwrap().der().to_vec(), key.serialize_der())
        };
        let ((first, its_key), (_, other_key)) = (pair(), pair());
        std::fs::write(&certificate, pem("CERTIFICATE", &first)).unwrap();
        std::fs::write(&key, pem("PRIVATE KEY", &its_key)).unwrap();
        assert_eq!(Tls::of_files(&certificate, &key).unwrap().fingerprint().len(), 95);
        std::fs::write(&key, pem("PRIVATE KEY", &other_key)).unwrap();
        let said = |error: ServeError| error.to_string();
        let wrong = said(Tls::of_files(&certificate, &key).unwrap_err());
        assert!(wrong.starts_with("cannot use a certificate: "), "{wrong}");
        for (first, second, file, expected) in [
            (&key, &key, &key, "expected a certificate in PEM form: there is none"),
            (&certificate, &certificate, &certificate, "expected a private key in PEM form"),
            (&folder.join("gone"), &key, &folder.join("gone"), "expected a certificate"),
        ] {
            let error = said(Tls::of_files(first, second).unwrap_err());
            assert!(
                error.contains(expected) && error.contains(&file.display().to_string()),
                "{error}"
            );
        }
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
