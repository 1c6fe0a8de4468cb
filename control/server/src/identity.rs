//! The node's certificate and the tokens of `--dev`, kept across restarts.
//!
//! Layout under the data directory (`dev/` with `--dev`, `tls/` without):
//! `ca.pem` (clients trust it), `node.pem` and `node.key` (the node shows it),
//! `node.secret` (it tells clients that a connection of before is over), and
//! with `--dev` `admin.token` and `client.token`. Keys, secrets and tokens are
//! readable by their owner only.

use std::fs;
use std::io::{self, Write};
use std::net::IpAddr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use pinion_node::access::{Grant, Permissions, Principal, Scope, TenantId, TokenDigest};
use pinion_quic::tls;
use rand::Rng;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose};
use rustls::RootCertStore;

use crate::config::Config;

/// Why the node has no identity.
#[derive(Debug, thiserror::Error)]
pub(crate) enum IdentityError {
    #[error("cannot {verb} {path}: {source}")]
    File {
        verb: &'static str,
        path: PathBuf,
        source: io::Error,
    },
    #[error("{path}: {source}; see tls.client_ca, and `pinion cert ca --clients`")]
    ClientCa {
        path: PathBuf,
        source: tls::TlsError,
    },
    #[error("cannot make a certificate: {0}")]
    Make(#[from] rcgen::Error),
}

/// PEM texts of the node's certificate chain and key.
pub(crate) struct Identity {
    pub(crate) chain_pem: String,
    pub(crate) key_pem: String,
    /// What clients pass as `--ca`; `None` when the operator brought their own.
    pub(crate) ca_path: Option<PathBuf>,
}

/// Loads the configured certificate, or the node's own, making it once.
pub(crate) fn load(config: &Config) -> Result<Identity, IdentityError> {
    if let (Some(cert), Some(key)) = (&config.tls.cert, &config.tls.key) {
        return Ok(Identity {
            chain_pem: read(cert)?,
            key_pem: read(key)?,
            ca_path: None,
        });
    }
    let dir = directory(config);
    let (chain, key, ca) = (
        dir.join("node.pem"),
        dir.join("node.key"),
        dir.join("ca.pem"),
    );
    if !(chain.exists() && key.exists() && ca.exists()) {
        make(config, &dir)?;
    }
    Ok(Identity {
        chain_pem: read(&chain)?,
        key_pem: read(&key)?,
        ca_path: Some(ca),
    })
}

/// Who signs for clients, where any certificate of theirs counts.
pub(crate) fn client_roots(config: &Config) -> Result<Option<RootCertStore>, IdentityError> {
    let Some(path) = &config.tls.client_ca else {
        return Ok(None);
    };
    let roots = tls::roots(read(path)?.as_bytes());
    roots.map(Some).map_err(|source| IdentityError::ClientCa {
        path: path.clone(),
        source,
    })
}

/// The secret behind stateless resets and address tokens. It outlives the
/// process, so that a node that was killed answers the packets of connections
/// it no longer knows with a reset their owners believe (RFC 9000 §10.3.2);
/// without it each client would wait out its idle timeout of 30 s.
///
/// A file that is no secret is replaced: all that is lost is that haste.
pub(crate) fn secret(config: &Config) -> Result<[u8; 32], IdentityError> {
    let dir = directory(config);
    create_dir(&dir)?;
    let path = dir.join("node.secret");
    if path.exists()
        && let Some(secret) = unhex(read(&path)?.trim())
    {
        return Ok(secret);
    }
    let mut secret = [0_u8; 32];
    rand::rng().fill_bytes(&mut secret);
    write(&path, &format!("{}\n", hex(&secret)), 0o600)?;
    Ok(secret)
}

/// Where this mode keeps its files.
pub(crate) fn directory(config: &Config) -> PathBuf {
    config.data_dir.join(if config.dev { "dev" } else { "tls" })
}

fn make(config: &Config, dir: &Path) -> Result<(), IdentityError> {
    create_dir(dir)?;
    let ca_key = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256)?;
    let mut ca = CertificateParams::new(Vec::<String>::new())?;
    ca.distinguished_name
        .push(DnType::CommonName, "pinion node authority");
    ca.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    ca.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let ca_cert = ca.self_signed(&ca_key)?;
    // The authority's key is dropped here: it signs this one certificate and
    // nobody can ever sign another with it.
    let issuer = Issuer::from_params(&ca, &ca_key);

    let mut names = vec![
        "localhost".to_owned(),
        "127.0.0.1".to_owned(),
        "::1".to_owned(),
    ];
    let ip: IpAddr = config.listen.ip();
    if !ip.is_loopback() && !ip.is_unspecified() {
        names.push(ip.to_string());
    }
    if let Ok(host) = fs::read_to_string("/proc/sys/kernel/hostname") {
        let host = host.trim();
        if !host.is_empty() && host.is_ascii() {
            names.push(host.to_owned());
        }
    }
    let mut node = CertificateParams::new(names)?;
    node.distinguished_name
        .push(DnType::CommonName, "pinion node");
    node.use_authority_key_identifier_extension = true;
    // ECDSA, never RSA: an RSA signature costs the handshake ten times as much.
    let node_key = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256)?;
    let node_cert = node.signed_by(&node_key, &issuer)?;

    write(&dir.join("ca.pem"), &ca_cert.pem(), 0o644)?;
    write(&dir.join("node.key"), &node_key.serialize_pem(), 0o600)?;
    write(&dir.join("node.pem"), &node_cert.pem(), 0o644)
}

/// The tokens of `--dev`: one that may do everything and runs the cluster, which
/// comes first, and one that may read and write. Minted once, then reused, so that shells opened earlier keep working.
pub(crate) fn dev_principals(
    config: &Config,
) -> Result<Vec<(TokenDigest, Principal)>, IdentityError> {
    let dir = directory(config);
    create_dir(&dir)?;
    let everything = |permissions| {
        vec![Grant {
            permissions,
            kind: None,
            namespace: Scope::Any,
            name: Scope::Any,
        }]
    };
    let mut principals = Vec::new();
    for (file, name, permissions) in [
        ("admin.token", "dev-admin", Permissions::ALL),
        (
            "client.token",
            "dev-client",
            Permissions::READ.and(Permissions::WRITE),
        ),
    ] {
        let path = dir.join(file);
        if !path.exists() {
            write(&path, &format!("{}\n", mint()), 0o600)?;
        }
        let token = read(&path)?;
        principals.push((
            TokenDigest::of(token.trim().as_bytes()),
            Principal {
                name: name.to_owned(),
                tenant: TenantId(1),
                grants: everything(permissions),
            },
        ));
    }
    Ok(principals)
}

/// The master key of `--dev` and where it is, made once: what was sealed opens again.
pub(crate) fn dev_master(config: &Config) -> Result<(PathBuf, String), IdentityError> {
    let dir = directory(config);
    create_dir(&dir)?;
    let path = dir.join("master.key");
    if !path.exists() {
        let mut key = [0_u8; 32];
        rand::rng().fill_bytes(&mut key);
        write(&path, &format!("{}\n", hex(&key)), 0o600)?;
    }
    let text = read(&path)?;
    Ok((path, text))
}

/// A new bearer token: 256 random bits behind a prefix that scanners know.
pub(crate) fn mint() -> String {
    let mut bytes = [0_u8; 32];
    rand::rng().fill_bytes(&mut bytes);
    format!("pinion_{}", hex(&bytes))
}

/// Lower-case hexadecimal.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        use std::fmt::Write as _;
        write!(text, "{byte:02x}").expect("writing to a String cannot fail");
        text
    })
}

/// 32 bytes from 64 hexadecimal digits.
fn unhex(text: &str) -> Option<[u8; 32]> {
    if text.len() != 64 || !text.is_ascii() {
        return None;
    }
    let mut bytes = [0; 32];
    for (index, byte) in bytes.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&text[2 * index..2 * index + 2], 16).ok()?;
    }
    Some(bytes)
}

fn create_dir(dir: &Path) -> Result<(), IdentityError> {
    fs::create_dir_all(dir).map_err(|source| IdentityError::File {
        verb: "create",
        path: dir.to_owned(),
        source,
    })
}

fn read(path: &Path) -> Result<String, IdentityError> {
    fs::read_to_string(path).map_err(|source| IdentityError::File {
        verb: "read",
        path: path.to_owned(),
        source,
    })
}

/// Writes beside and renames, so that a crash leaves the old file or the new
/// one, and a reader never sees half a key.
fn write(path: &Path, text: &str, mode: u32) -> Result<(), IdentityError> {
    let temporary = path.with_extension("new");
    let result = fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(mode)
        .open(&temporary)
        .and_then(|mut file| {
            file.write_all(text.as_bytes())?;
            file.sync_all()
        })
        .and_then(|()| fs::rename(&temporary, path));
    result.map_err(|source| IdentityError::File {
        verb: "write",
        path: path.to_owned(),
        source,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn dev_config(dir: &Path) -> Config {
        Config {
            dev: true,
            data_dir: dir.to_owned(),
            ..Config::default()
        }
    }

    #[test]
    fn identity_and_tokens_survive_a_restart_and_secrets_are_private() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let config = dev_config(dir.path());
        let first = load(&config).expect("made");
        let tokens: Vec<_> = dev_principals(&config)
            .expect("minted")
            .into_iter()
            .map(|(digest, _)| digest)
            .collect();
        let again = load(&config).expect("loaded");
        assert_eq!(first.chain_pem, again.chain_pem);
        let kept: Vec<_> = dev_principals(&config)
            .expect("read")
            .into_iter()
            .map(|(digest, _)| digest)
            .collect();
        assert_eq!(tokens, kept);
        assert_eq!(
            secret(&config).expect("minted"),
            secret(&config).expect("read")
        );
        for secret in ["node.key", "node.secret", "admin.token", "client.token"] {
            let mode = fs::metadata(dir.path().join("dev").join(secret))
                .expect("exists")
                .permissions()
                .mode();
            assert_eq!(mode & 0o077, 0, "{secret} is readable by others");
        }
    }

    #[test]
    fn a_secret_that_is_none_is_replaced() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let config = dev_config(dir.path());
        let first = secret(&config).expect("minted");
        let path = dir.path().join("dev/node.secret");
        for not_a_secret in ["", "00ff", &"é".repeat(32), &"zz".repeat(32)] {
            fs::write(&path, not_a_secret).expect("written");
            let second = secret(&config).expect("minted again");
            assert_ne!(first, second);
            assert_eq!(second, secret(&config).expect("read"));
        }
    }

    #[test]
    fn the_client_token_may_not_administer() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let principals = dev_principals(&dev_config(dir.path())).expect("minted");
        let client = &principals[1].1;
        assert_eq!(client.name, "dev-client");
        assert!(
            !client.grants[0]
                .permissions
                .allow(pinion_wire::opcode::Permission::Admin)
        );
    }

    #[test]
    fn tokens_do_not_repeat() {
        assert_ne!(mint(), mint());
        assert_eq!(mint().len(), "pinion_".len() + 64);
    }
}
