//! TLS for the sandbox's listener: a certificate authority of its own, and a certificate by it for this machine.
//!
//! The authority can vouch for nothing but `localhost` and the two loopback addresses, so that whoever trusts it
//! for a test has opened no door to anywhere else. Nothing here may offer HTTP/2, which the sandbox does not speak.

use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use jiff::{Timestamp, tz::TimeZone};
use rcgen::{
    BasicConstraints, CertificateParams, CidrSubnet, DnType, ExtendedKeyUsagePurpose, GeneralSubtree, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, NameConstraints,
};
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier as _;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{RootCertStore, ServerConfig};

use super::blocking::blocking;
use super::clock::{earlier, later};
use super::draft::replace_private;

/// The names that the certificate is for, and all that the authority may vouch for.
const NAMES: [&str; 3] = ["localhost", "127.0.0.1", "::1"];
/// Two years: some clients refuse certificates that live longer than 825 days.
const LIFETIME: Duration = Duration::from_hours(730 * 24);
/// How long before it was made it is valid, for clients whose clocks are slow.
const BACKDATED: Duration = Duration::from_hours(24);

/// Where the certificates lie.
#[derive(Debug, Clone)]
pub(super) struct Papers {
    dir: PathBuf,
}

impl Papers {
    /// Those of the sandbox in `dir`.
    pub(super) fn of(dir: &Path) -> Self {
        Self { dir: dir.join("tls") }
    }

    /// The authority's certificate, PEM: what a client has to trust.
    pub(super) fn authority(&self) -> PathBuf {
        self.dir.join("ca.pem")
    }

    fn authority_key(&self) -> PathBuf {
        self.dir.join("ca.key")
    }

    fn certificate(&self) -> PathBuf {
        self.dir.join("server.pem")
    }

    fn key(&self) -> PathBuf {
        self.dir.join("server.key")
    }

    /// Reads what a former start left while it is good at `now`, or else makes all of it anew.
    pub(super) async fn open(self, now: Timestamp) -> io::Result<Arc<ServerConfig>> {
        blocking(move || {
            if let Ok(config) = self.read(now) {
                return Ok(config);
            }
            self.make(now)?;
            self.read(now)
        })
        .await
    }

    fn read(&self, now: Timestamp) -> io::Result<Arc<ServerConfig>> {
        let certificate = CertificateDer::from_pem_file(self.certificate()).map_err(io::Error::other)?;
        let authority = CertificateDer::from_pem_file(self.authority()).map_err(io::Error::other)?;
        let key = PrivateKeyDer::from_pem_file(self.key()).map_err(io::Error::other)?;
        let provider = Arc::new(aws_lc_rs::default_provider());
        verify(&certificate, authority, &provider, now)?;
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(io::Error::other)?
            .with_no_client_auth()
            .with_single_cert(vec![certificate], key)
            .map_err(io::Error::other)?;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Arc::new(config))
    }

    fn make(&self, now: Timestamp) -> io::Result<()> {
        fs::create_dir_all(&self.dir)?;
        let authority_key = KeyPair::generate().map_err(io::Error::other)?;
        let key = KeyPair::generate().map_err(io::Error::other)?;
        let authority = authority(now).map_err(io::Error::other)?;
        let authority_certificate = authority.self_signed(&authority_key).map_err(io::Error::other)?;
        let issuer = Issuer::from_params(&authority, &authority_key);
        let certificate =
            leaf(now).and_then(|leaf| leaf.signed_by(&key, &issuer)).map_err(io::Error::other)?;
        replace_private(&self.authority_key(), authority_key.serialize_pem().as_bytes())?;
        replace_private(&self.key(), key.serialize_pem().as_bytes())?;
        fs::write(self.authority(), authority_certificate.pem())?;
        fs::write(self.certificate(), certificate.pem())
    }
}

/// Checks the certificate as a client would at `now`, for every name.
fn verify(
    certificate: &CertificateDer<'_>,
    authority: CertificateDer<'_>,
    provider: &Arc<CryptoProvider>,
    now: Timestamp,
) -> io::Result<()> {
    let mut roots = RootCertStore::empty();
    roots.add(authority).map_err(io::Error::other)?;
    let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider))
        .build()
        .map_err(io::Error::other)?;
    let seconds = u64::try_from(now.as_second()).map_err(io::Error::other)?;
    let now = UnixTime::since_unix_epoch(Duration::from_secs(seconds));
    for name in NAMES {
        let name = ServerName::try_from(name).map_err(io::Error::other)?;
        verifier.verify_server_cert(certificate, &[], &name, &[], now).map_err(io::Error::other)?;
    }
    Ok(())
}

fn authority(now: Timestamp) -> Result<CertificateParams, rcgen::Error> {
    let mut params = named(now, "formidlingd sandbox CA (not Altinn)", Vec::new())?;
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let only = |address: IpAddr| {
        let bits = if address.is_ipv4() { 32 } else { 128 };
        GeneralSubtree::IpAddress(CidrSubnet::from_addr_prefix(address, bits))
    };
    params.name_constraints = Some(NameConstraints {
        permitted_subtrees: vec![
            GeneralSubtree::DnsName("localhost".to_owned()),
            only(Ipv4Addr::LOCALHOST.into()),
            only(Ipv6Addr::LOCALHOST.into()),
        ],
        excluded_subtrees: Vec::new(),
    });
    Ok(params)
}

fn leaf(now: Timestamp) -> Result<CertificateParams, rcgen::Error> {
    let names = NAMES.map(str::to_owned).to_vec();
    let mut params = named(now, "formidlingd sandbox (not Altinn)", names)?;
    params.use_authority_key_identifier_extension = true;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    Ok(params)
}

fn named(now: Timestamp, name: &str, names: Vec<String>) -> Result<CertificateParams, rcgen::Error> {
    let mut params = CertificateParams::new(names)?;
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    let midnight = |time: Timestamp| {
        let date = time.to_zoned(TimeZone::UTC).date();
        let (month, day) = (date.month().unsigned_abs(), date.day().unsigned_abs());
        rcgen::date_time_ymd(date.year().into(), month, day)
    };
    params.not_before = midnight(earlier(now, BACKDATED));
    params.not_after = midnight(later(now, LIFETIME));
    Ok(params)
}
