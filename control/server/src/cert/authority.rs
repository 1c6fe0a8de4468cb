//! An authority that signs for nodes of one cluster, or for clients: never for both, so
//! that neither can stand for the other.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rcgen::string::Ia5String;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, SanType, date_time_ymd,
};

/// Certificates count from this long before they are made: clocks of other machines may
/// be behind.
const EARLIER: Duration = Duration::from_secs(3600);

/// What an authority signs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Signs {
    Nodes,
    Clients,
}

impl Signs {
    /// Names of the authority's files, without their endings.
    pub(crate) fn stem(self) -> &'static str {
        match self {
            Self::Nodes => "ca",
            Self::Clients => "client-ca",
        }
    }

    fn common_name(self, cluster: &str) -> String {
        match self {
            Self::Nodes => format!("pinion cluster {cluster}"),
            Self::Clients => format!("pinion clients of {cluster}"),
        }
    }
}

/// A certificate and its key, both PEM.
pub(crate) struct Pair {
    pub(crate) certificate: String,
    pub(crate) key: String,
}

/// An authority at work: its key is in memory.
pub(crate) struct Authority {
    signs: Signs,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    /// A new one, and what is to be kept of it.
    pub(crate) fn make(
        signs: Signs,
        cluster: &str,
        now: SystemTime,
        life: Duration,
    ) -> Result<(Self, Pair), rcgen::Error> {
        // ECDSA, never RSA: an RSA signature costs the handshake ten times as much.
        let key = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256)?;
        let params = params(signs, cluster, now, life);
        let pair = Pair {
            certificate: params.self_signed(&key)?.pem(),
            key: key.serialize_pem(),
        };
        let issuer = Issuer::new(params, key);
        Ok((Self { signs, issuer }, pair))
    }

    /// One that was made earlier for the same cluster, from its key. What it signs leads
    /// to its certificate if the cluster is the same.
    pub(crate) fn load(signs: Signs, cluster: &str, key: &str) -> Result<Self, rcgen::Error> {
        let key = KeyPair::from_pem(key)?;
        // Only the name and the key matter to who signs: not for how long it may.
        let params = params(signs, cluster, UNIX_EPOCH, Duration::ZERO);
        let issuer = Issuer::new(params, key);
        Ok(Self { signs, issuer })
    }

    /// Signs for whoever is `id`, a URI, at `hosts` (DNS names and addresses).
    pub(crate) fn sign(
        &self,
        id: &str,
        hosts: &[String],
        now: SystemTime,
        life: Duration,
    ) -> Result<Pair, rcgen::Error> {
        let key = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256)?;
        let mut params = CertificateParams::new(hosts)?;
        let id = SanType::URI(Ia5String::try_from(id)?);
        params.subject_alt_names.push(id);
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.use_authority_key_identifier_extension = true;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = match self.signs {
            // A node is asked by clients and peers, and asks peers.
            Signs::Nodes => vec![
                ExtendedKeyUsagePurpose::ServerAuth,
                ExtendedKeyUsagePurpose::ClientAuth,
            ],
            Signs::Clients => vec![ExtendedKeyUsagePurpose::ClientAuth],
        };
        set_life(&mut params, now, life);
        let certificate = params.signed_by(&key, &self.issuer)?.pem();
        let key = key.serialize_pem();
        Ok(Pair { certificate, key })
    }
}

fn params(signs: Signs, cluster: &str, now: SystemTime, life: Duration) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params
        .distinguished_name
        .push(DnType::CommonName, signs.common_name(cluster));
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    set_life(&mut params, now, life);
    params
}

fn set_life(params: &mut CertificateParams, now: SystemTime, life: Duration) {
    let since = now.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    let epoch = date_time_ymd(1970, 1, 1);
    params.not_before = epoch + since.saturating_sub(EARLIER);
    params.not_after = epoch + since.saturating_add(life);
}
