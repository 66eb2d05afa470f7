//! Starts `hearth serve` and asks it, with and without TLS.
#![allow(clippy::unwrap_used, dead_code, reason = "helpers of several tests")]

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, ClientConnection, DigitallySignedStruct, SignatureScheme, StreamOwned};
use serde_json::Value;
use sha2::{Digest, Sha256};

/// How long any one wait may take; far more than the slowest machine needs.
pub const PATIENCE: Duration = Duration::from_secs(300);

/// A folder of this test, empty.
pub fn folder(test: &str) -> PathBuf {
    let folder = std::env::temp_dir().join(format!("hearth-serve-{test}-{}", std::process::id()));
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder).unwrap();
    folder
}

/// A folder with a page in it.
pub fn page(folder: &Path) -> PathBuf {
    let page = folder.join("page");
    fs::create_dir_all(&page).unwrap();
    fs::write(page.join("index.html"), "<p>warm").unwrap();
    page
}

/// `hearth serve` on a free port, until it is dropped.
pub struct Serving {
    pub child: Child,
    /// What it said of itself.
    pub report: Value,
}

impl Serving {
    pub fn start(folder: &Path, args: &[&str]) -> Self {
        let mut hearth = Command::new(env!("CARGO_BIN_EXE_hearth"));
        hearth.args(["serve", "--no-open", "--port", "0", "--json", "--page"]).arg(page(folder));
        // no model of this machine's cache
        hearth.args(args).env("XDG_CACHE_HOME", folder).stdout(Stdio::piped());
        let mut child = hearth.spawn().unwrap();
        let mut said = String::new();
        for line in BufReader::new(child.stdout.take().unwrap()).lines() {
            said += &line.unwrap();
            if said.ends_with('}') && serde_json::from_str::<Value>(&said).is_ok() {
                break;
            }
        }
        let report = serde_json::from_str(&said).unwrap_or_else(|error| panic!("{error}: {said}"));
        Self { child, report }
    }

    /// Host and port.
    pub fn host(&self) -> &str {
        let address = self.report["addresses"][0].as_str().unwrap();
        address.split('/').nth(2).unwrap()
    }

    pub fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.host()).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream
    }

    /// A connection with TLS to whoever has the certificate whose fingerprint was printed.
    pub fn connect_tls(&self) -> StreamOwned<ClientConnection, TcpStream> {
        let fingerprint = self.report["fingerprint"].as_str().unwrap().to_owned();
        let provider = Arc::new(ring::default_provider());
        let config = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .unwrap()
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(ByFingerprint { fingerprint, provider }))
            .with_no_client_auth();
        let host = self.host().split(':').next().unwrap().to_owned();
        let name = ServerName::try_from(host).unwrap();
        let client = ClientConnection::new(Arc::new(config), name).unwrap();
        StreamOwned::new(client, self.connect())
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Asks for a path on an open connection: the answer's head in lower case.
pub fn ask(stream: &mut (impl Read + Write), path: &str, headers: &str) -> String {
    write!(stream, "GET {path} HTTP/1.1\r\nHost: hearth.test\r\n{headers}\r\n").unwrap();
    stream.flush().unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).unwrap();
        head.push(byte[0]);
    }
    String::from_utf8(head).unwrap().to_lowercase()
}

/// Asks for a path and reads its body, which has a length.
pub fn get(stream: &mut (impl Read + Write), path: &str, headers: &str) -> (String, Vec<u8>) {
    let head = ask(stream, path, headers);
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
    let mut body = vec![0; length.unwrap().parse().unwrap()];
    stream.read_exact(&mut body).unwrap();
    (head, body)
}

/// A model of this many bytes whose numbers are zero, but for the first eight bytes of every MiB, which are the
/// position. Nearly all of it takes no room on the disk.
pub fn sparse_model(path: &Path, bytes: u64) {
    let numbers = (bytes - (1 << 20)) / 4;
    let header = hearth_testing::gguf::GgufFile::default()
        .text("general.architecture", "gemma3")
        .tensor_at("token_embd.weight", &[numbers], 0, 0);
    let mut file = File::create(path).unwrap();
    file.write_all(&header.bytes()).unwrap();
    file.set_len(bytes).unwrap();
    for at in (1 << 20..bytes - 8).step_by(1 << 20) {
        std::io::Seek::seek(&mut file, std::io::SeekFrom::Start(at)).unwrap();
        file.write_all(&at.to_le_bytes()).unwrap();
    }
}

/// Accepts the one certificate with this fingerprint, as a careful visitor does.
#[derive(Debug)]
struct ByFingerprint {
    fingerprint: String,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for ByFingerprint {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let digest: Vec<String> =
            Sha256::digest(certificate).iter().map(|byte| format!("{byte:02X}")).collect();
        let right = digest.join(":") == self.fingerprint;
        right.then(ServerCertVerified::assertion).ok_or(rustls::Error::General("another".into()))
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let known = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signature, known)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let known = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signature, known)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
